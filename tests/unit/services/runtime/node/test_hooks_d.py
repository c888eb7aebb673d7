from __future__ import annotations

import json

import pytest

from kernel.errors import FailedPrecondition
from services.runtime.node import hooks_d
from services.runtime.node.admin_files import AdminFile
from services.runtime.node.hooks_d import When

HOOK = {"version": "1.0.0", "hook": {"path": "/bin/h"}, "when": {"always": True}, "stages": ["prestart"]}


def file(content: object, name: str = "a.json", folder: str = "/hooks.d", reason: str = "") -> AdminFile:
    text = content if isinstance(content, str) else json.dumps(content)
    return AdminFile(folder=folder, name=name, content=text.encode(), reason=reason)


def wanted(when: When, command: str = "/bin/sleep", bind: bool = False, **annotations: str) -> bool:
    return hooks_d.wanted(when, annotations=annotations, command=command, has_bind_mounts=bind)


def edits(*files: AdminFile):
    return hooks_d.edits(files, annotations={}, command="x", has_bind_mounts=False).hooks


def test_conditions() -> None:
    assert wanted(When(always=True))
    assert not wanted(When(always=False))
    assert not wanted(When())
    assert wanted(When(commands=["^/bin/", "^x$"]))
    assert not wanted(When(commands=["^/sbin/"]))
    assert wanted(When(has_bind_mounts=False))
    assert not wanted(When(has_bind_mounts=True))
    assert wanted(When(annotations={"^a$": "^1$"}), a="1", b="2")
    assert not wanted(When(annotations={"^a$": "^2$"}), a="1", b="2")  # one annotation must match both
    assert not wanted(When(annotations={"^a$": "1", "^c$": ""}), a="1")


def test_all_must_hold_or_any() -> None:
    assert not wanted(When(always=True, has_bind_mounts=True))
    assert wanted(When(always=True, has_bind_mounts=True, or_=True))


def test_hooks_come_by_name_and_stage() -> None:
    second = {**HOOK, "hook": {"path": "/bin/b", "args": ["b"], "env": ["A=1"], "timeout": 2}}
    both = {**second, "stages": ["poststop", "createRuntime"]}
    assert edits(file(both, "b.json"), file(HOOK, "a.json")) == (
        ("prestart", {"path": "/bin/h"}),
        ("createRuntime", {"path": "/bin/b", "args": ["b"], "env": ["A=1"], "timeout": 2}),
        ("poststop", {"path": "/bin/b", "args": ["b"], "env": ["A=1"], "timeout": 2}),
    )


def test_a_later_folders_file_replaces() -> None:
    off = {**HOOK, "when": {"always": False}}
    assert edits(file(HOOK), file(off, folder="/etc/hooks.d")) == ()
    # also one that would not read
    assert edits(file("{"), file(off, folder="/etc/hooks.d")) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        "{",
        {**HOOK, "version": "0.1.0"},
        {**HOOK, "hook": {"path": "h"}},
        {**HOOK, "hook": {"path": "/h", "timeout": 0}},
        {**HOOK, "stages": ["later"]},
        {**HOOK, "stages": []},
        {**HOOK, "when": {"commands": ["("]}},
        {**HOOK, "when": {"sometimes": True}},
        {**HOOK, "more": 1},
    ],
)
def test_a_file_that_is_wrong_is_named(wrong: object) -> None:
    with pytest.raises(FailedPrecondition, match=r"hook /hooks\.d/a\.json: "):
        edits(file(wrong))


def test_a_file_that_others_can_write_is_named() -> None:
    with pytest.raises(FailedPrecondition, match=r"/hooks\.d/a\.json: can be written"):
        edits(file(HOOK, reason="can be written by others than root"))
