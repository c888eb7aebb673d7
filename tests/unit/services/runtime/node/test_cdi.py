from __future__ import annotations

import json

import pytest

from kernel.errors import InvalidInput
from services.runtime.node import cdi
from services.runtime.node.admin_files import AdminFile
from services.runtime.spec.additions import CdiNode

SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "v.com/gpu",
    "annotations": {"a": "b"},
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "env": ["A=0"],
                "deviceNodes": [{"path": "/dev/g0", "type": "c", "major": 3, "minor": 4, "fileMode": 432, "uid": 5}],
                "hooks": [{"hookName": "prestart", "path": "/bin/h", "args": ["h"], "timeout": 3}],
            },
        },
        {"name": "1", "containerEdits": {"mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro"]}]}},
    ],
    "containerEdits": {"env": ["ALL=1"], "additionalGids": [0, 7]},
}


def file(content: object, name: str = "a.json", folder: str = "/etc/cdi", reason: str = "") -> AdminFile:
    text = content if isinstance(content, str) else json.dumps(content)
    return AdminFile(folder=folder, name=name, content=text.encode(), reason=reason)


def resolve(*names: str, files: list[AdminFile] | None = None):
    return cdi.resolve(cdi.requested(names, {}), files if files is not None else [file(SPEC)])


def test_what_devices_add() -> None:
    found = resolve("v.com/gpu=0", "v.com/gpu=1")
    assert found.env == ("ALL=1", "A=0")  # what is said for all devices comes once
    assert found.additional_gids == (7,)
    assert found.devices == (CdiNode(path="/dev/g0", host_path="/dev/g0", kind="c", major=3, minor=4, mode=432, uid=5),)
    assert found.hooks == (("prestart", {"path": "/bin/h", "args": ["h"], "timeout": 3}),)
    assert found.mounts == ({"destination": "/b", "type": "bind", "source": "/a", "options": ["ro", "bind"]},)


def test_yaml_is_read_too() -> None:
    text = "cdiVersion: 0.3.0\nkind: v.com/nic\ndevices:\n- name: eth:0\n  containerEdits: {env: [N=1]}\n"
    assert resolve("v.com/nic=eth:0", files=[file(text, "nic.yaml")]).env == ("N=1",)


def test_fields_and_annotations_name_devices_once() -> None:
    annotations = {"cdi.k8s.io/a": "v.com/c=1,v.com/c=2", "other": "v.com/c=3"}
    assert cdi.requested(["v.com/c=1"], annotations) == (
        ("CDI_devices[0]", "v.com/c=1"), ("annotations['cdi.k8s.io/a']", "v.com/c=2"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["", "x", "v.com/c", "v.com/c=", "=1", "v.com/c=-a", "v.com/../c=1", "v.com/c=1 ", "v" * 600]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"CDI_devices\[0\]"):
        cdi.requested([name], {})
    with pytest.raises(InvalidInput, match=r"cdi\.k8s\.io/a"):
        cdi.requested([], {"cdi.k8s.io/a": name})


def test_a_later_folder_comes_first() -> None:
    later = {"cdiVersion": "0.8.0", "kind": "v.com/gpu", "devices": [{"name": "0", "containerEdits": {"env": ["L=1"]}}]}
    files = [file(SPEC), file(later, "z.json", "/var/run/cdi")]
    assert resolve("v.com/gpu=0", files=files).env == ("L=1",)


def test_rivals_in_a_folder_are_a_conflict() -> None:
    with pytest.raises(InvalidInput, match=r"several specifications: /etc/cdi/a\.json, /etc/cdi/b\.json"):
        resolve("v.com/gpu=0", files=[file(SPEC), file(SPEC, "b.json")])


def test_a_device_that_is_nowhere_says_which_files_do_not_count() -> None:
    files = [file("{", "bad.json"), file("", "loose.json", reason="can be written by others than root")]
    with pytest.raises(InvalidInput, match=r"v\.com/gpu=0 is in no spec.*bad\.json.*loose\.json: can be written"):
        resolve("v.com/gpu=0", files=files)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cdiVersion": "0.2.0"}, "cdiVersion"),
        ({"cdiVersion": "0.61.0.0"}, "cdiVersion"),
        ({"kind": "gpu"}, "kind"),
        ({"unknown": 1}, "unknown"),
        ({"devices": [{"name": "a/b", "containerEdits": {}}]}, "a/b"),
        ({"devices": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"containerEdits": {"env": ["=x"]}}, "env"),
        ({"containerEdits": {"deviceNodes": [{"path": "dev"}]}}, "not absolute"),
        ({"containerEdits": {"deviceNodes": [{"path": "/d", "permissions": "rwx"}]}}, "permissions"),
        ({"containerEdits": {"deviceNodes": [{"path": "/d", "type": "x"}]}}, "type"),
        ({"containerEdits": {"mounts": [{"hostPath": "/a", "containerPath": "/../b"}]}}, "mount"),
        ({"containerEdits": {"hooks": [{"hookName": "later", "path": "/h"}]}}, "hook"),
        ({"containerEdits": {"hooks": [{"hookName": "prestart", "path": "h"}]}}, "hook"),
        ({"containerEdits": {"additionalGids": [-1]}}, "additionalGids"),
    ],
)
def test_a_file_that_is_wrong_does_not_count(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cdi.parse(file({**SPEC, **change}))
