"""Attachments are whole or not there."""

from pathlib import Path

import pytest

from kernel.errors import Corrupt, Internal
from kernel.ids import SandboxId
from services.network.documents.conflist import Network, Plugin
from services.network.records.attachments import Attachment, Attachments

SANDBOX = SandboxId("ab" * 32)


def attachment() -> Attachment:
    plugin = Plugin(type="bridge", conf={"type": "bridge", "n": [1, None, True]}, capabilities=("portMappings",))
    return Attachment(
        sandbox_id=SANDBOX,
        interface="eth0",
        network=Network(name="pods", cni_version="1.0.0", plugins=(plugin,)),
        arguments="A=b",
        runtime_config={"portMappings": [{"hostPort": 1}]},
        result={"ips": []},
    )


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    store = Attachments(tmp_path)
    assert store.load(SANDBOX) is None
    store.save(attachment())
    assert Attachments(tmp_path).load(SANDBOX) == attachment()
    assert store.sandboxes() == (SANDBOX,)
    assert (tmp_path / f"{SANDBOX}.json").stat().st_mode & 0o777 == 0o600


def test_removing_is_repeatable_and_leaves_nothing(tmp_path: Path) -> None:
    store = Attachments(tmp_path)
    store.save(attachment())
    store.lock_path(SANDBOX).touch()
    store.remove(SANDBOX)
    store.remove(SANDBOX)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b'{"sandbox": 7}', b"\0" * 100])
def test_damage_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / f"{SANDBOX}.json").write_bytes(data)
    with pytest.raises(Corrupt, match="cannot be parsed"):
        Attachments(tmp_path).load(SANDBOX)


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Internal, match="cannot be written"):
        Attachments(tmp_path / "gone").save(attachment())


def test_other_files_are_not_sandboxes(tmp_path: Path) -> None:
    for name in ("x.json", f"{SANDBOX}.new", f"{SANDBOX}.running", "lock"):
        (tmp_path / name).touch()
    assert Attachments(tmp_path).sandboxes() == ()
