"""systemd is told how the service is; without systemd nothing happens."""

from __future__ import annotations

import os
import socket

import pytest

from ingestd.notify import sd_notify


def test_without_systemd_it_does_nothing() -> None:
    sd_notify(None, "READY=1")


def test_a_systemd_that_is_away_for_a_moment_harms_nothing(tmp_path) -> None:
    sd_notify(str(tmp_path / "nobody"), "WATCHDOG=1")


@pytest.mark.parametrize("abstract", [False, True])
def test_the_state_reaches_systemds_socket(tmp_path, abstract: bool) -> None:
    name = f"ingestd-test-{os.getpid()}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("\0" if abstract else "") + name)

        sd_notify(("@" if abstract else "") + name, "READY=1\nSTATUS=taking files")

        assert receiver.recv(100) == b"READY=1\nSTATUS=taking files"
