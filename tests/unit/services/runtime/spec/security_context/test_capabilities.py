from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from services.runtime.spec.security_context.capabilities import NAMES, from_mask, lacking, resolve

ALL = frozenset(NAMES)


def chosen(add: tuple[str, ...] = (), drop: tuple[str, ...] = (), **fields: object) -> set[str]:
    values = {"privileged": False, "bounding": ALL, **fields}
    return set(resolve(("CHOWN", "CAP_KILL"), add, drop, **values))  # type: ignore[arg-type]


def test_default_add_and_drop() -> None:
    assert chosen() == {"CAP_CHOWN", "CAP_KILL"}
    assert chosen(("cap_net_admin", "SYS_TIME"), ("KILL",)) == {"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_TIME"}


def test_all() -> None:
    assert chosen(add=("ALL",)) == {f"CAP_{name}" for name in NAMES}
    assert chosen(add=("NET_RAW",), drop=("all",)) == {"CAP_NET_RAW"}
    assert "CAP_SYS_ADMIN" not in chosen(add=("ALL",), drop=("SYS_ADMIN",))


def test_nothing_beyond_what_the_daemon_holds() -> None:
    held = ALL - {"SYS_RESOURCE"}
    assert "CAP_SYS_RESOURCE" not in chosen(privileged=True, bounding=held)
    assert chosen(add=("SYS_RESOURCE",), bounding=held) == {"CAP_CHOWN", "CAP_KILL"}


@pytest.mark.parametrize("name", ["FOO", "", "CAP_", "CHOWN\n"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"add_capabilities\[1\]"):
        chosen(add=("CHOWN", name))


def test_a_mask_is_read_by_bits() -> None:
    assert from_mask(0b100001) == {"CHOWN", "KILL"}
    assert from_mask(0x1FFFFFFFFFF) == ALL


def test_what_a_container_asks_for_and_does_not_get() -> None:
    held = ALL - {"SYS_RESOURCE", "CHOWN"}
    assert lacking(("CHOWN", "CAP_KILL"), privileged=False, bounding=held) == ["CAP_CHOWN"]
    assert lacking(("ALL",), privileged=False, bounding=held) == ["CAP_CHOWN", "CAP_SYS_RESOURCE"]
    assert lacking((), privileged=True, bounding=held) == ["CAP_CHOWN", "CAP_SYS_RESOURCE"]
    assert lacking((), privileged=False, bounding=held) == []
