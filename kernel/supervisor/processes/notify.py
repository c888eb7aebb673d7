"""Readiness for the service manager (sd_notify(3)): one datagram to NOTIFY_SOCKET, or nothing if that is not set."""

from __future__ import annotations

import logging
import os
import socket

_LOG = logging.getLogger(__name__)
_VARIABLE = "NOTIFY_SOCKET"


def ready(main_pid: int) -> None:
    """Report to the service manager that the daemon is ready, and its main process."""
    _tell(f"READY=1\nMAINPID={main_pid}\n")


def replaced(main_pid: int) -> None:
    """Report to the service manager that the daemon has another main process now."""
    _tell(f"MAINPID={main_pid}\n")


def environment() -> dict[str, str]:
    """Return the environment that a process needs to report to the service manager."""
    return {_VARIABLE: os.environ[_VARIABLE]} if _VARIABLE in os.environ else {}


def _tell(words: str) -> None:
    address = os.environ.get(_VARIABLE, "")
    if not address.startswith("/"):  # an abstract one cannot be reached from the supervisor's network namespace
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
        try:
            end.sendto(words.encode(), address)
        except OSError as error:
            _LOG.warning("the service manager at %s cannot be told: %s", address, error)
