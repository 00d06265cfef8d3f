"""systemd is told how the service is; without systemd nothing happens."""

from __future__ import annotations

import os
import socket

import pytest

from ingestd.notify import sd_notify


def test_without_systemd_it_does_nothing(monkeypatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    sd_notify("READY=1")


@pytest.mark.parametrize("abstract", [False, True])
def test_the_state_reaches_systemds_socket(monkeypatch, tmp_path, abstract: bool) -> None:
    name = f"ingestd-test-{os.getpid()}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("\0" if abstract else "") + name)
        monkeypatch.setenv("NOTIFY_SOCKET", ("@" if abstract else "") + name)

        sd_notify("READY=1\nSTATUS=taking files")

        assert receiver.recv(100) == b"READY=1\nSTATUS=taking files"
