"""Lines of mountinfo, and what they tell of a path."""

from __future__ import annotations

from services.runtime.namespaces import mount_table

TABLE = r"""
22 1 0:20 / / rw,relatime - overlay crisp rw
23 22 0:21 / /mnt/a\040b rw shared:7 - nfs4 server:/x rw
24 22 0:22 / /mnt rw master:3 propagate_from:2 - ext4 /dev/sda rw
""".strip()


def test_the_mount_table() -> None:
    table = mount_table.parse(TABLE)
    assert [(mount.point, mount.fstype) for mount in table] == [
        ("/", "overlay"), ("/mnt/a b", "nfs4"), ("/mnt", "ext4"),
    ]  # fmt: skip
    assert mount_table.mount_of("/mnt/a b/c", table).marks == ("shared:7",)
    assert mount_table.mount_of("/mnt/a", table).marks == ("master:3", "propagate_from:2")
    assert mount_table.mount_of("/mntx", table).point == "/"


def test_which_mounts_could_hang() -> None:
    assert [mount.point for mount in mount_table.slow(TABLE)] == ["/mnt/a b"]
    assert mount_table.slow("1 1 0:1 / / rw - nfs4 server:/ rw") == []
