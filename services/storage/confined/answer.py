"""The end of a confined child: its answer, and an exit status that distinguishes a refusal from a result.

Runs in the children only. It imports the standard library and crisp's errors alone, so that a child starts quickly;
`refusal` is the worker's side of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress

from kernel.errors import FULL, CrispError, Internal, ResourceExhausted

REFUSED = 3
"""The exit status of a child whose answer is an error."""
_MOST_MESSAGE = 1000
"""Characters of an error's message that are passed on: it may repeat names from the child's input."""


def finish(fd: int, work: Callable[[], dict[str, object]], place: str, *, kind: type[CrispError] | None = None) -> None:
    """Do the child's work, write its result as JSON to `fd`, and end the process; never returns.

    A CrispError is written with its kind, or with `kind` if given. `place` names, in the message of an error of
    the file system, what the child works on. A reader that has ended is no error.
    """
    try:
        answer, status = json.dumps(work()), 0
    except CrispError as error:
        answer, status = _encode(kind or type(error), error.message[:_MOST_MESSAGE], error.hint), REFUSED
    except OSError as error:
        full = kind is None and error.errno in FULL
        answer, status = _encode(ResourceExhausted if full else Internal, f"{place}: {error}"), REFUSED
    with suppress(BrokenPipeError):
        write_all(fd, answer.encode())
    os._exit(status)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data` to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _encode(kind: type[CrispError], message: str, hint: str = "") -> str:
    return json.dumps({"error": kind.__name__, "message": message, "hint": hint})
