"""What can be asked of the confinement without becoming confined; tests/confine does the rest."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

import kernel
import services
from kernel.errors import FailedPrecondition
from kernel.supervisor.privileges import enforce
from kernel.supervisor.privileges.workers import IMAGE, STORAGE, WORKERS, Sockets


def test_an_account_is_looked_up() -> None:
    assert enforce.account("root").pw_uid == 0


def test_a_missing_account_comes_with_the_line_that_makes_it() -> None:
    with pytest.raises(FailedPrecondition, match="crisp-nobody") as caught:
        enforce.account("crisp-nobody")
    assert caught.value.hint.startswith("make it: useradd --system")


def test_filters_are_compiled_once() -> None:
    before = set(os.listdir("/proc/self/fd"))
    enforce.prepare(WORKERS)
    assert IMAGE.seccomp is not None
    program = enforce._program(IMAGE.seccomp)
    assert program is enforce._program(IMAGE.seccomp)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_filter_is_a_program_that_refuses_more_for_a_smaller_row() -> None:
    assert IMAGE.seccomp is not None
    assert STORAGE.seccomp is not None
    small, large = (enforce._program(one.seccomp) for one in (STORAGE, IMAGE))
    assert len(small) % 8 == len(large) % 8 == 0
    allow, eperm = 0x7FFF0000, 0x00050001
    for program in (small, large):
        returned = {k for code, _, _, k in struct.iter_unpack("HBBI", program) if code == 0x06}  # BPF_RET | BPF_K
        assert {allow, eperm} <= returned
    assert len(large) > len(small) - 8 * len(Sockets.INTERNET.value)


def test_modules_may_be_imported_late_from_a_checkout_that_is_in_no_path_of_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkout = Path(kernel.__path__[0]).parent
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry).absolute() != checkout])
    tree = enforce._python_tree()
    assert {Path(kernel.__path__[0]), Path(services.__path__[0])} <= set(tree)
    assert checkout not in tree  # what else lies there is not for a worker
