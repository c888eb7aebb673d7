from __future__ import annotations

from services.runtime.cgroups import hierarchies
from services.runtime.node import host_support


def test_what_the_host_allows() -> None:
    found = host_support.read(hierarchies.find())
    assert found.controllers
    assert found.hostname == host_support.host_name()
