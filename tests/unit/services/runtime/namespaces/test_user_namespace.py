"""The pure parts of making user namespaces."""

from __future__ import annotations

import pytest

from services.runtime.namespaces import user_namespace


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc-v657", (6, 18)), ("6.1.0-9-amd64", (6, 1)), ("5.4", (5, 4)), ("7-rc1", (7, 0)), ("6.8+", (6, 8))],
)
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert user_namespace.kernel_version(release) == version
