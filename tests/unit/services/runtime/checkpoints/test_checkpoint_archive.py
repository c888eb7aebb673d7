"""The layout of an archive, and what its descriptions say; read with Python's tar and as checkpointctl would."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import CreateRequest, SealRequest
from kernel.contracts.storage import Descriptions
from kernel.front.documents.checkpoint_descriptions import parse
from kernel.ids import ContainerId, SandboxId
from services.runtime.checkpoints import checkpoint_archive

CONTAINER, SANDBOX = ContainerId("c" * 64), SandboxId("5" * 64)
SEAL = SealRequest(
    container_id=CONTAINER, location="/a.tar", name="main", image_id="sha256:" + "1" * 64, image_name="busybox",
    image_tag="docker.io/library/busybox:latest", created_at=1_700_000_000_123_456_789,
)  # fmt: skip
REQUEST = CreateRequest(
    container_id=CONTAINER, sandbox_id=SANDBOX, name="main", attempt=2, image=ImageConfig(), image_name="busybox",
    image_ref="x", labels={"app": "web"}, annotations={"io.kubernetes.container.hash": "abc"},
)  # fmt: skip
SPEC = {
    "ociVersion": "1.0.2", "process": {"terminal": False},
    "annotations": {"io.kubernetes.cri.container-name": "main", "io.container.manager": "crisp"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "bind", "source": "/tmp"},
        {"destination": "/file", "type": "bind", "source": "/etc/hostname"},
        {"destination": "/gone", "type": "bind", "source": "/no/such/thing"},
    ],
}  # fmt: skip


def test_the_description_is_as_checkpointctl_reads_it() -> None:
    said = json.loads(checkpoint_archive.config_dump(SEAL, "runc", now=1_700_000_001_000_000_000))
    assert said == {
        "id": CONTAINER, "name": "main", "rootfsImage": "busybox", "rootfsImageRef": "1" * 64,
        "rootfsImageName": "docker.io/library/busybox:latest", "runtime": "runc",
        "createdTime": "2023-11-14T22:13:20.123456789Z", "checkpointedTime": "2023-11-14T22:13:21.000000000Z",
        "restoredTime": "0001-01-01T00:00:00Z", "restored": False,
    }  # fmt: skip


def test_the_specification_has_what_other_engines_look_for() -> None:
    said = json.loads(checkpoint_archive.spec_dump(SPEC, REQUEST, SEAL))
    notes = said.pop("annotations")
    assert {**said, "annotations": SPEC["annotations"]} == SPEC
    assert notes["io.kubernetes.cri.container-name"] == "main"
    assert json.loads(notes["io.kubernetes.cri-o.Annotations"]) == REQUEST.annotations
    assert json.loads(notes["io.kubernetes.cri-o.Metadata"]) == {"name": "main", "attempt": 2}


def test_crisp_reads_what_it_writes() -> None:
    descriptions = Descriptions(
        config=checkpoint_archive.config_dump(SEAL, "runc", now=0),
        spec=checkpoint_archive.spec_dump(SPEC, REQUEST, SEAL),
    )
    origin = parse("x", descriptions)
    assert (origin.image_id, origin.mounts) == (SEAL.image_id, ("/data", "/file", "/gone"))


def test_bind_mounts_say_what_their_sources_are() -> None:
    said = json.loads(checkpoint_archive.bind_mounts(SPEC))
    assert [(mount["destination"], mount["file_type"]) for mount in said] == [("/data", "directory"), ("/file", "file")]


def test_an_archive_has_known_files_alone(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "pages-1.img").write_bytes(os.urandom(10_000))
    (folder / "checkpoint" / "link").symlink_to("/etc/passwd")
    (folder / "checkpoint" / "below").mkdir()
    for name in (*checkpoint_archive.PARTS, "restore.log"):
        (folder / name).write_text(name)
    with (tmp_path / "archive.tar").open("wb") as out:
        checkpoint_archive.write(folder, out)
    with tarfile.open(tmp_path / "archive.tar") as archive:
        members = {member.name: member for member in archive.getmembers()}
        assert list(members) == ["checkpoint", "checkpoint/pages-1.img", *checkpoint_archive.PARTS]
        assert all((member.uid, member.mode & 0o77) == (0, 0) for member in members.values())
        pages = archive.extractfile("checkpoint/pages-1.img")
        assert pages is not None
        assert pages.read() == (folder / "checkpoint" / "pages-1.img").read_bytes()
