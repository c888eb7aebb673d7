"""Platforms as the configuration and the host name them."""

import pytest

from kernel.errors import InvalidInput
from services.image.documents import platforms


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/a/b/c", "linux/amd64 ", "linux/٣"])
def test_refuses_platforms(text: str) -> None:
    with pytest.raises(InvalidInput):
        platforms.parse(text)


def test_host_platforms() -> None:
    assert str(platforms.of_host("x86_64")) == "linux/amd64"
    assert str(platforms.of_host("armv7l")) == "linux/arm/v7"
    assert str(platforms.of_host("riscv64")) == "linux/riscv64"
