"""Tells systemd how the service is. Without systemd it does nothing."""

from __future__ import annotations

import contextlib
import socket


def sd_notify(address: str | None, state: str) -> None:
    """Send ``state`` (``READY=1``, ``WATCHDOG=1``, ...) to ``$NOTIFY_SOCKET``, as sd_notify(3)."""
    if address:
        # systemd may be away for a moment, to restart itself: as sd_notify does, go on.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s,
        ):
            s.connect("\0" + address[1:] if address.startswith("@") else address)
            s.send(state.encode())
