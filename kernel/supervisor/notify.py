"""Readiness for the service manager (sd_notify(3)): one datagram where NOTIFY_SOCKET says so, else nothing."""

from __future__ import annotations

import logging
import os
import socket

_LOG = logging.getLogger(__name__)


def ready(main_pid: int) -> None:
    """Say that the daemon serves, and which process stands for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith("/"):  # an abstract one cannot be reached from the supervisor's network namespace
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
        try:
            end.sendto(f"READY=1\nMAINPID={main_pid}\n".encode(), address)
        except OSError as error:
            _LOG.warning("the service manager at %s cannot be told: %s", address, error)
