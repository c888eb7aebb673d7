"""The worker's side of a child's answer: the error that a refusal carries, and the text of a child that failed.

Runs in the storage worker. A child has read hostile bytes, so nothing in its answer is trusted: one that cannot be
decoded, or names no kind of error, is Internal.
"""

from __future__ import annotations

import msgspec

from kernel.errors import KINDS, CrispError, Internal
from kernel.host import process


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An error in the answer of a child that ended with `answer.REFUSED`."""

    error: str
    """The name of its kind."""
    message: str
    hint: str = ""

    def to_error(self, what: str = "") -> CrispError:
        """Return the error. `what`, if given, is put before its message."""
        message = f"{what}: {self.message}" if what else self.message
        return KINDS.get(self.error, Internal)(message, hint=self.hint)


def decode(answer: bytes) -> Refusal:
    """Read a refusal; msgspec.DecodeError if the answer is none."""
    return msgspec.json.decode(answer, type=Refusal)


def failure(returncode: int, output: bytes) -> str:
    """Describe a child that ended without an answer: its exit status or signal, and the end of its output."""
    return f"{process.describe(returncode)}: {last_words(output) or 'without a message'}"


def last_words(output: bytes) -> str:
    """Return the last 500 characters of a child's output."""
    return output.decode(errors="replace").strip()[-500:]
