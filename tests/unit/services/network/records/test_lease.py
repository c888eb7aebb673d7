"""host-local's leases are told from its other files."""

from pathlib import Path

from kernel.ids import SandboxId
from services.network.records import lease

OURS, THEIRS = SandboxId("ab" * 32), SandboxId("cd" * 32)


def test_only_our_addresses_are_told(tmp_path: Path) -> None:
    network = tmp_path / "pods"
    network.mkdir()
    (network / "10.0.0.2").write_text(f"{OURS}\r\neth0")
    (network / "fd00::2").write_text(f"{OURS}\neth0")
    (network / "10.0.0.3").write_text(f"{THEIRS}\r\neth0")
    (network / "10.0.0.4").write_text("")
    (network / "last_reserved_ip.0").write_text(OURS)
    (network / "lock").mkdir()
    assert lease.held_by({OURS}, [tmp_path, tmp_path / "gone"]) == {"10.0.0.2": OURS, "fd00::2": OURS}
