"""Which proxy leads where."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidInput
from services.image.registry.address import origin
from services.image.registry.proxies import Proxies, Proxy, parse

HTTP, HTTPS = Proxy("p.example", 3128), Proxy("s.example", 80, "Basic YTpiIGM=")


def both(direct: str = "") -> Proxies:
    return parse("http://p.example:3128", "http://a:b%20c@s.example/", direct)


def test_by_scheme() -> None:
    assert both() == Proxies(HTTP, HTTPS)
    assert both().to(origin("http", "r.example")) == HTTP
    assert both().to(origin("https", "r.example")) == HTTPS
    assert parse("", "p.example:3128", "").to(origin("http", "r.example")) is None
    assert parse("", "p.example:3128", "").to(origin("https", "r.example")) == HTTP
    assert "YTpiIGM" not in repr(both())


@pytest.mark.parametrize(
    ("entry", "host", "fits"),
    [
        ("*", "r.example", True),
        ("r.example", "r.example", True),
        ("r.example", "x.r.example", True),
        ("r.example", "xr.example", False),
        (".r.example", "x.r.example", True),
        (".r.example", "r.example", False),
        ("*.r.example", "x.r.example", True),
        ("R.example", "r.example", True),
        ("r.example:5000", "r.example:5000", True),
        ("r.example:5000", "r.example", False),
        ("x, r.example", "r.example", True),
        ("10.0.0.0/8", "10.1.2.3:5000", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("fd00::/8", "[fd00::1]:5000", True),
        ("", "127.0.0.1:5000", True),
        ("", "localhost:5000", True),
        ("", "[::1]", True),
    ],
)
def test_direct(entry: str, host: str, fits: bool) -> None:
    assert (both(entry).to(origin("https", host)) is None) is fits


@pytest.mark.parametrize(
    "text", ["socks5://p:1", "https://p:1", "http://", "http://p:x", "http://p:1/path", "http://[::1"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"image\.http_proxy"):
        parse(text, "", "")
