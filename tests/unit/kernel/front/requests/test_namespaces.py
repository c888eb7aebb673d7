"""Namespaces of pods and containers."""

from __future__ import annotations

import pytest

from kernel.contracts.runtime import NamespaceMode
from kernel.cri.generated import cri_pb2 as cri
from kernel.errors import InvalidInput
from kernel.front.requests import namespaces

TARGET = "d" * 64


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("network", cri.NamespaceOption(network=cri.TARGET)),
        ("pid", cri.NamespaceOption(pid=77)),  # type: ignore[arg-type]
        ("ipc", cri.NamespaceOption(ipc=cri.CONTAINER)),
    ],
)
def test_a_mode_that_a_pod_cannot_have_names_its_field(name: str, options: cri.NamespaceOption) -> None:
    with pytest.raises(InvalidInput, match=rf"options\.{name}: "):
        namespaces.of_pod("options", options)


@pytest.mark.parametrize(
    ("of_pod", "asked", "becomes"),
    [
        (cri.POD, cri.POD, NamespaceMode.POD),
        (cri.POD, cri.CONTAINER, NamespaceMode.CONTAINER),
        (cri.CONTAINER, cri.POD, NamespaceMode.CONTAINER),
        (cri.NODE, cri.POD, NamespaceMode.NODE),
        (cri.POD, cri.NODE, NamespaceMode.NODE),
    ],
)
def test_a_pid_namespace_that_the_pod_has_not_is_not_shared(
    of_pod: cri.NamespaceMode, asked: cri.NamespaceMode, becomes: NamespaceMode
) -> None:
    found = namespaces.pid_of_container("o", cri.NamespaceOption(pid=asked), cri.NamespaceOption(pid=of_pod))
    assert found == (becomes, None)


def test_a_target_is_a_container_by_its_id() -> None:
    options = cri.NamespaceOption(pid=cri.TARGET, target_id=TARGET)
    assert namespaces.pid_of_container("o", options, cri.NamespaceOption()) == (NamespaceMode.TARGET, TARGET)
    with pytest.raises(InvalidInput, match="container id"):
        namespaces.pid_of_container("o", cri.NamespaceOption(pid=cri.TARGET), cri.NamespaceOption())
