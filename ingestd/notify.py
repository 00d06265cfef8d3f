"""Tells systemd how the service is. Without systemd it does nothing."""

from __future__ import annotations

import os
import socket


def sd_notify(state: str) -> None:
    """Send ``state`` (``READY=1``, ``WATCHDOG=1``, ...) as sd_notify(3) does."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
            s.connect("\0" + address[1:] if address.startswith("@") else address)
            s.send(state.encode())
