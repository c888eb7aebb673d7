"""A child ends with its answer, or with a refusal that the worker reads back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kernel.errors import Corrupt, CrispError, Internal, InvalidInput, ResourceExhausted
from services.storage.confined import answer, refusal

SCRIPT = """
import errno, os
from kernel.errors import *
from services.storage.confined import answer

def work():
    {work}

{before}
answer.finish(1, work, "the folder", kind={kind})
"""


def ended(work: str, kind: str = "None", before: str = "") -> tuple[int, bytes]:
    script = SCRIPT.format(work=work, kind=kind, before=before)
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, check=False, timeout=20)
    assert not done.stderr
    return done.returncode, done.stdout


def test_an_answer() -> None:
    code, output = ended('return {"inodes": 3}')
    assert (code, json.loads(output)) == (0, {"inodes": 3})


@pytest.mark.parametrize(
    ("error", "kind", "wanted"),
    [
        ("InvalidInput('bad', hint='mend it')", "None", InvalidInput("bad", hint="mend it")),
        ("InvalidInput('x' * 5000)", "None", InvalidInput("x" * 1000)),
        ("InvalidInput('bad')", "Corrupt", Corrupt("bad")),
        ("OSError(errno.ENOSPC, 'full')", "None", ResourceExhausted("the folder: [Errno 28] full")),
        ("OSError(errno.ENOSPC, 'full')", "Corrupt", Internal("the folder: [Errno 28] full")),
        ("OSError(errno.EIO, 'broken')", "None", Internal("the folder: [Errno 5] broken")),
    ],
)
def test_a_refusal(error: str, kind: str, wanted: CrispError) -> None:
    code, output = ended(f"raise {error}", kind)
    found = refusal.decode(output).to_error()
    assert (code, type(found), found.message, found.hint) == (answer.REFUSED, type(wanted), wanted.message, wanted.hint)


def test_a_reader_that_has_gone_is_no_error() -> None:
    before = "read, write = os.pipe(); os.dup2(write, 1); os.close(read); os.close(write)"
    assert ended("return {}", before=before) == (0, b"")
