"""Which capabilities are dropped from the bounding set; the kernel's side is tested in tests/confine."""

from __future__ import annotations

import errno

import pytest

from kernel.host import bounding, syscalls


class Kernel:
    """Answers prctl(2) as a kernel with `known` capabilities."""

    def __init__(self, known: int, *, permitted: bool = True) -> None:
        self.known = known
        self.permitted = permitted
        self.dropped: set[int] = set()

    def __call__(self, option: int, bit: int) -> int:
        assert option == syscalls.PR_CAPBSET_DROP
        if not self.permitted:
            raise OSError(errno.EPERM, "no")
        if bit >= self.known:
            raise OSError(errno.EINVAL, "what")
        self.dropped.add(bit)
        return 0


@pytest.mark.parametrize("known", [41, 50, 64])
def test_all_but_what_is_kept(known: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(known)
    monkeypatch.setattr(syscalls, "prctl", kernel)
    bounding.cut(1 << 3 | 1 << 40, required=True)
    assert kernel.dropped == set(range(known)) - {3, 40}


def test_a_kernel_that_lacks_a_known_capability_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "prctl", Kernel(38))
    with pytest.raises(OSError, match="what"):
        bounding.cut(0, required=True)


def test_without_the_right_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(41, permitted=False)
    monkeypatch.setattr(syscalls, "prctl", kernel)
    with pytest.raises(OSError, match="no"):
        bounding.cut(0, required=True)
    bounding.cut(0, required=False)
    assert not kernel.dropped
