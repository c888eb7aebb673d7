"""The node's auth.json."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition
from services.image.credentials import NodeCredentials
from services.image.documents.auth_file import Helper

SECRET = "hunter2-do-not-show"


def entry(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{SECRET}".encode()).decode()}


def auths(**found: object) -> bytes:
    return json.dumps({"auths": found}).encode()


def test_a_namespaces_files_come_first(tmp_path: Path) -> None:
    node, folder = tmp_path / "auth.json", tmp_path / "namespaces"
    folder.mkdir()
    node.write_bytes(auths(**{"a.example": entry("node"), "b.example": entry("node")}))
    (folder / "team.json").write_bytes(auths(**{"a.example": entry("team")}))
    named = hashlib.sha256(b"a.example/app").hexdigest()
    (folder / f"team-{named}.json").write_bytes(auths(**{"a.example": entry("app")}))
    credentials = NodeCredentials(node, folder)

    def user(registry: str, path: str, namespace: str) -> str:
        found = credentials.find(registry, path, namespace=namespace, name=f"{registry}/{path}")
        assert isinstance(found, Auth)
        return found.username

    assert user("a.example", "app", "team") == "app"
    assert user("a.example", "other", "team") == "team"
    assert user("b.example", "app", "team") == "node"
    assert user("a.example", "app", "other") == user("a.example", "app", "") == "node"
    for strange in ("../team", "TEAM", "a/b"):
        assert user("a.example", "app", strange) == "node"
    (folder / f"team-{named}.json").unlink()
    assert user("a.example", "app", "team") == "team"


def test_the_helpers_of_registries_conf_come_last(tmp_path: Path) -> None:
    credentials = NodeCredentials(tmp_path / "auth.json", None)
    found = credentials.find("a.example", "x", helpers=("one", "two"))
    assert found == tuple(Helper(name, "a.example", certain=False) for name in ("one", "two"))
    (tmp_path / "auth.json").write_bytes(auths(**{"a.example": entry("ann")}))
    assert credentials.find("a.example", "x", helpers=("one",)) == Auth(username="ann", password=SECRET)


def test_rereads_what_changed(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    credentials = NodeCredentials(file, None)
    assert credentials.find("a.example", "x") == ()
    file.write_bytes(auths(**{"a.example": entry("ann")}))
    assert credentials.find("a.example", "x") == Auth(username="ann", password=SECRET)
    file.write_bytes(b"no")
    for _ in range(2):
        with pytest.raises(FailedPrecondition):
            credentials.find("a.example", "x")
    file.unlink()
    assert credentials.find("a.example", "x") == ()
    assert NodeCredentials(None, None).find("a.example", "x") == ()
