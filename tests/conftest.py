"""What every test gets: a run is either by root, with all of it, or by somebody else, without what needs root."""

from __future__ import annotations

import os

import pytest

collect_ignore_glob = ["bench/*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Integration tests make mounts, namespaces and containers: without root they are skipped, and say so."""
    if os.geteuid() == 0:
        return
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason="needs root: run deploy/test"))
