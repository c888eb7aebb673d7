from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.errors import FailedPrecondition, InvalidInput
from services.runtime.security import seccomp_files
from services.runtime.security.seccomp_files import SeccompFiles

GOOD = '{"defaultAction": "SCMP_ACT_ALLOW"}'

owned_by_root = pytest.mark.skipif(os.geteuid() != 0, reason="files must belong to root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "seccomp"
    (folder / "team").mkdir(parents=True)
    (folder / "team" / "good.json").write_text(GOOD)
    (tmp_path / "seccomp-else.json").write_text(GOOD)
    return folder


def test_a_name_or_a_whole_path_below_the_folder(root: Path) -> None:
    for ref in ("team/good.json", f"{root}/team/good.json", f"{root}//team/./good.json"):
        assert seccomp_files.localhost(str(root), ref, "field").default_action == "SCMP_ACT_ALLOW"


@pytest.mark.parametrize(
    "ref", ["", ".", "..", "../seccomp-else.json", "/etc/passwd", "{root}", "{root}/..", "{root}-else.json", "a\0b",
            "{root}/team/../../seccomp-else.json", "link", "folder/good.json", "team", "pipe", "none"],
)  # fmt: skip
def test_whatever_leads_elsewhere_is_refused(root: Path, ref: str) -> None:
    (root / "link").symlink_to("team/good.json")
    (root / "folder").symlink_to("team")
    os.mkfifo(root / "pipe")
    with pytest.raises(InvalidInput, match=r"^field: "):
        seccomp_files.localhost(str(root), ref.replace("{root}", str(root)), "field")


def test_the_folder_may_be_missing(root: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        seccomp_files.localhost(str(root / "none"), "x.json", "field")


@owned_by_root
def test_without_a_folder_any_file_of_root_counts(root: Path) -> None:
    good = root / "team" / "good.json"
    good.chmod(0o644)
    (root / "link.json").symlink_to(good)  # kubelets' folders are often links to another disk
    for ref in (good, root / "link.json"):
        assert seccomp_files.localhost("", str(ref), "field").default_action == "SCMP_ACT_ALLOW"


@owned_by_root
@pytest.mark.parametrize(
    ("mode", "owner", "reason"),
    [(0o646, 0, "others than root"), (0o664, 0, "others than root"), (0o644, 1000, "others than root")],
)
def test_without_a_folder_a_file_that_others_can_write_is_refused(
    root: Path, mode: int, owner: int, reason: str
) -> None:
    good = root / "team" / "good.json"
    good.chmod(mode)
    os.chown(good, owner, owner)
    with pytest.raises(InvalidInput, match=f"^field: .*{reason}"):
        seccomp_files.localhost("", str(good), "field")


@pytest.mark.parametrize("ref", ["", "good.json", "../x", "a\0b", "/a\0b", "{root}", "{root}/none", "{root}/pipe"])
def test_without_a_folder_only_a_whole_path_to_a_file_counts(root: Path, ref: str) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(InvalidInput, match=r"^field: "):
        seccomp_files.localhost("", ref.replace("{root}", str(root)), "field")


def test_no_descriptor_stays_open(root: Path) -> None:
    (root / "bad.json").write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    for ref in ("team/good.json", "bad.json", "team", "none"):
        with suppress(InvalidInput):
            seccomp_files.localhost(str(root), ref, "field")
        with suppress(InvalidInput):
            seccomp_files.localhost("", str(root / ref), "field")
    files = SeccompFiles()
    for _ in range(3):
        files.default("builtin")
    assert len(os.listdir("/proc/self/fd")) == before


@owned_by_root
def test_the_default_is_the_configured_file_or_the_hosts_or_the_one_built_in(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = root / "team" / "good.json"
    files = SeccompFiles()
    assert files.default(str(own)).default_action == "SCMP_ACT_ALLOW"
    monkeypatch.setattr(seccomp_files, "HOST_DEFAULT", own)
    assert files.default("").default_action == "SCMP_ACT_ALLOW"
    assert files.default("builtin").default_action == "SCMP_ACT_ERRNO"
    monkeypatch.setattr(seccomp_files, "HOST_DEFAULT", root / "none")
    assert files.default("").default_action == "SCMP_ACT_ERRNO"


@owned_by_root
def test_a_changed_file_is_read_again_and_a_wrong_one_is_never_ignored(root: Path) -> None:
    own = root / "own.json"
    own.write_text(GOOD)
    files = SeccompFiles()
    first = files.get(own)
    assert files.get(own) is first
    own.write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    assert files.get(own).default_action == "SCMP_ACT_LOG"
    for change in (lambda: own.chmod(0o622), lambda: own.write_text("no"), own.unlink):
        change()
        with pytest.raises(FailedPrecondition, match=str(own)):
            files.get(own)
