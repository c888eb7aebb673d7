"""Ports as they are typed."""

from __future__ import annotations

import pytest

from kernel.cli.commands.port_forward import ports
from kernel.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "pair"), [("80", (80, 80)), ("8080:80", (8080, 80)), (":80", (0, 80)), ("0:80", (0, 80))]
)
def test_ports(text: str, pair: tuple[int, int]) -> None:
    assert ports(text) == pair


@pytest.mark.parametrize("text", ["", "0", "65536", "80:", "80:0", "70000:80", "a", "-1", "1:2:3", "80/tcp"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(InvalidInput, match="LOCAL"):
        ports(text)
