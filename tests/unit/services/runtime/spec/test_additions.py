from __future__ import annotations

from services.runtime.spec import additions
from services.runtime.spec.additions import CdiNode, Edits

SPEC: additions.Spec = {
    "process": {"env": ["A=1", "B=2"], "user": {"uid": 1, "additionalGids": [5]}},
    "mounts": [{"destination": "/a/b", "source": "x"}, {"destination": "/c", "source": "y"}],
    "linux": {"resources": {}},
}


def test_nothing_changes_nothing() -> None:
    assert additions.apply(SPEC, Edits()) == SPEC


def test_what_is_added() -> None:
    hook = {"path": "/h"}
    given = Edits(
        env=("B=3", "C=4"), additional_gids=(5, 6), hooks=(("poststop", hook), ("prestart", hook)),
        mounts=({"destination": "/c", "source": "z"}, {"destination": "/a", "source": "w"}), intel_rdt={"closID": "g"},
        block_io={"weight": 10},
    )  # fmt: skip
    changed = additions.apply(SPEC, given)
    assert changed["process"] == {"env": ["A=1", "B=3", "C=4"], "user": {"uid": 1, "additionalGids": [5, 6]}}
    assert changed["mounts"] == [
        {"destination": "/c", "source": "z"}, {"destination": "/a", "source": "w"},
        {"destination": "/a/b", "source": "x"},
    ]  # fmt: skip
    assert changed["hooks"] == {"prestart": [hook], "poststop": [hook]}
    assert changed["linux"] == {"resources": {"blockIO": {"weight": 10}}, "intelRdt": {"closID": "g"}}
    assert "hooks" not in SPEC


def test_edits_add_up() -> None:
    node = CdiNode(path="/d", host_path="/d")
    both = Edits(env=("A=1",), devices=(node,)) + Edits(env=("A=2",), hooks=(("prestart", {"path": "/h"}),))
    assert both.env == ("A=1", "A=2")
    assert both.devices == (node,)
    assert len(both.hooks) == 1
