"""One log format for every process: `time LEVEL process trace: message`, to stderr.

An error is logged once, where it ends: the front's interceptor, the worker's loop, the supervisor.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

TRACE: ContextVar[str] = ContextVar("trace", default="-")
"""The id of the CRI call being served; it is sent with every call on the bus."""


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.trace = TRACE.get()
        return super().format(record)


def configure(process: str, level: str) -> None:
    """Send this process's log records of `level` and above to stderr, marked with its name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(f"%(asctime)s.%(msecs)03d %(levelname)s {process} %(trace)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
