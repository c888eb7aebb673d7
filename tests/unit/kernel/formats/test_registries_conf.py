"""registries.conf: what is refused, how drop-ins are merged, and that changes are seen."""

from __future__ import annotations

import pytest

from kernel.errors import FailedPrecondition
from kernel.formats.registries_conf import Conf, merge, parse

MIRROR = '[[registry]]\nlocation = "a"\n[[registry.mirror]]\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[registry]]\n", "neither prefix nor location"),
        ("[[registry]]\nlocation = 5\n", "location"),
        ("[[registry]\n", "line 1"),
        ("registry = 1\n", "registry"),
        ('[[registry]]\nlocation = "https://x"\n', "host"),
        ('[[registry]]\nlocation = "a b"\n', "host"),
        ('[[registry]]\nprefix = "a.*"\nlocation = "x"\n', "host"),
        ('[[registry]]\nprefix = "a.example"\n', "no location"),
        ('[[registry]]\nlocation = "a"\npull-from-mirror = "all"\n', "belongs to a mirror"),
        ('[[registry]]\nlocation = "a"\n[[registry]]\nlocation = "a"\nblocked = true\n', "twice"),
        (f'{MIRROR}insecure = true\n', "mirror has no location"),
        (f'{MIRROR}location = "b"\npull-from-mirror = "never"\n', "never"),
        ('[[registry]]\nlocation = "a"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "b"\n'
         'pull-from-mirror = "all"\n', "only one of the two"),
        ('unqualified-search-registries = ["a/b"]\n', "unqualified-search-registries"),
        ('unqualified-search-registries = "a"\n', "unqualified_search_registries|unqualified-search-registries"),
        ('short-name-mode = "ask"\n', "short-name-mode|enum"),
        ('[aliases]\n"a.example/x" = "b.example/x"\n', "alias"),
        ('[aliases]\nx = "y"\n', "alias"),
        ('[aliases]\nx = "b.example/x:v1"\n', "alias"),
        ('[aliases]\n"x:v1" = "b.example/x"\n', "alias"),
        ('[aliases]\nx = "b.example/UPPER"\n', "alias"),
        ('[registries.search]\nregistries = ["a.example"]\n', "version 1.*unqualified-search-registries"),
    ],
)  # fmt: skip
def test_refuses(text: str, why: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"some file.*({why})"):
        parse(text, "some file")


def test_drop_ins_replace_what_they_name() -> None:
    """Tables by prefix and whole, the search list, the mode and the helpers as a whole, aliases one by one."""
    first = """
        unqualified-search-registries = ["a.example", "b.example"]
        short-name-mode = "enforcing"
        credential-helpers = ["one"]
        [aliases]
        kept = "a.example/kept"
        moved = "a.example/moved"
        gone = "a.example/gone"
        [[registry]]
        location = "x.example"
        insecure = true
        [[registry.mirror]]
        location = "m.example"
        [[registry]]
        prefix = "*.y.example"
    """
    silent = parse("", "10")
    second = """
        unqualified-search-registries = []
        short-name-mode = "disabled"
        [aliases]
        moved = "b.example/moved"
        gone = ""
        [[registry]]
        prefix = "x.example"
        location = "z.example"
    """
    same = merge([parse(first, "main"), silent])
    assert (same.search, same.mode, same.helpers) == (("a.example", "b.example"), "enforcing", ("one",))
    conf = merge([parse(first, "main"), silent, parse(second, "20")])
    assert (conf.search, conf.mode, conf.helpers) == ((), "disabled", ("one",))
    assert conf.aliases == {"kept": "a.example/kept", "moved": "b.example/moved"}
    assert set(conf.registries) == {"x.example", "*.y.example"}
    assert (conf.registries["x.example"].insecure, conf.registries["x.example"].mirror) == (None, ())
    assert merge([]) == Conf()
