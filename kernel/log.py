"""One log format for every process: `time LEVEL worker: message key=value`, to stderr.

An error is logged once, where it ends: the front's interceptor, the worker's loop, the supervisor.
"""

from __future__ import annotations

import logging
import sys


def configure(process: str, level: str) -> None:
    """Send this process's log records of `level` and above to stderr, marked with its name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s.%(msecs)03d %(levelname)s {process}: %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
