"""Readiness follows the folder of configurations at once."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kernel.contracts.network import Readiness
from kernel.errors import FailedPrecondition
from services.network.documents.conflist import Network
from services.network.plugins.conf_dir import ConfDir


def conf(name: str = "pods", kind: str = "bridge") -> str:
    return json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": kind}]})


def nothing_missing(network: Network) -> tuple[str, ...]:
    return ()


@asynccontextmanager
async def watched(
    folder: Path,
    default: str = "",
    plugin_dirs: tuple[str, ...] = (),
    missing: Callable[[Network], tuple[str, ...]] = nothing_missing,
) -> AsyncIterator[ConfDir]:
    confs = ConfDir(folder, default, plugin_dirs, missing)
    try:
        yield confs
    finally:
        confs.close()


async def following(changes: AsyncIterator[Readiness]) -> Readiness:
    return await asyncio.wait_for(anext(changes), 5)


async def test_an_empty_or_missing_folder_is_not_ready(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "net.d"):
        async with watched(folder) as confs:
            readiness = confs.readiness()
            assert (readiness.ready, readiness.reason) == (False, "NetworkPluginNotReady")
            assert "No CNI configuration file in" in readiness.message
            with pytest.raises(FailedPrecondition, match="No CNI configuration file"):
                confs.network()


async def test_the_first_file_by_name_counts(tmp_path: Path) -> None:
    (tmp_path / "20-b.conflist").write_text(conf("b"))
    (tmp_path / "10-a.conflist").write_text(conf("a"))
    (tmp_path / "05-x.conflist.bak").write_text(conf("x"))
    async with watched(tmp_path) as confs:
        assert confs.network().name == "a"
    async with watched(tmp_path, default="b") as confs:
        assert confs.network().name == "b"
    async with watched(tmp_path, default="c") as confs:
        assert "'c'" in confs.readiness().message


async def test_a_broken_file_is_passed_over_and_named(tmp_path: Path) -> None:
    (tmp_path / "10-a.conflist").write_text("{")
    async with watched(tmp_path) as confs:
        assert "10-a.conflist: not a JSON object" in confs.readiness().message
        (tmp_path / "20-b.conflist").write_text(conf("b"))
        assert confs.network().name == "b"


async def test_a_good_file_that_breaks_keeps_its_last_good_content(tmp_path: Path) -> None:
    path = tmp_path / "10-a.conflist"
    path.write_text(conf("a"))
    async with watched(tmp_path) as confs:
        path.write_text(conf("b")[:20])
        assert confs.network().name == "a"
        path.write_text(conf("b"))
        assert confs.network().name == "b"
        path.unlink()
        assert not confs.readiness().ready


async def test_only_plain_files_of_root_count(tmp_path: Path) -> None:
    (tmp_path / "1.conflist").mkdir()
    os.mkfifo(tmp_path / "2.conflist")
    (tmp_path / "x").write_text(conf("link"))
    (tmp_path / "3.conflist").symlink_to("x")
    writable = tmp_path / "4.conflist"
    writable.write_text(conf("writable"))
    writable.chmod(0o666)
    async with watched(tmp_path) as confs:
        assert not confs.readiness().ready
    writable.chmod(0o644)
    async with watched(tmp_path) as confs:
        assert confs.network().name == "writable"


async def test_a_plugin_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "10.conflist").write_text(conf(kind="calico"))
    async with watched(tmp_path, plugin_dirs=("/opt/cni/bin",), missing=lambda network: network.binaries()) as confs:
        message = confs.readiness().message
        assert "plugin calico of network pods is in none of /opt/cni/bin" in message


async def test_changes_are_told_without_being_asked(tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "cni" / "net.d"
    async with watched(folder) as confs:
        changes = confs.changes()
        assert not (await following(changes)).ready
        folder.mkdir(parents=True)
        (folder / ".10.tmp").write_text(conf())
        (folder / ".10.tmp").rename(folder / "10.conflist")
        assert (await following(changes)).ready
        (folder / "10.conflist").unlink()
        assert not (await following(changes)).ready
        folder.rmdir()
        folder.parent.rmdir()
        folder.mkdir(parents=True)
        (folder / "10.conflist").write_text(conf())
        assert (await following(changes)).ready
        (folder / "10.conflist").unlink()
        folder.rmdir()
        assert not (await following(changes)).ready


async def test_a_plugin_that_appears_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "10.conflist").write_text(conf())
    plugins = tmp_path / "bin"

    def missing(network: Network) -> tuple[str, ...]:
        return () if (plugins / "bridge").exists() else ("bridge",)

    async with watched(tmp_path, plugin_dirs=(str(plugins),), missing=missing) as confs:
        changes = confs.changes()
        assert not (await following(changes)).ready
        plugins.mkdir()
        (plugins / "bridge").touch()
        assert (await following(changes)).ready


async def test_a_template_becomes_the_configuration(tmp_path: Path) -> None:
    """Written where nothing else is configured, again where the CIDR changes, and never beside another's file."""
    folder, template = tmp_path / "net.d", tmp_path / "template"
    template.write_text(conf().replace('"bridge"}', '"bridge", "subnet": "{{.PodCIDR}}"}'))
    async with watched(folder) as confs:
        for cidr in ("10.7.0.0/24", "10.7.0.0/24", "10.8.0.0/24"):
            confs.render(str(template), [cidr])
            assert confs.network().plugins[0].conf["subnet"] == cidr
        assert [path.name for path in folder.iterdir()] == ["10-crisp-pods.conflist"]
        assert (folder / "10-crisp-pods.conflist").stat().st_mode & 0o777 == 0o644
        (folder / "10-crisp-pods.conflist").unlink()
        (folder / "50-other.conf").write_text("{half")
        confs.render(str(template), ["10.9.0.0/24"])
        assert [path.name for path in folder.iterdir()] == ["50-other.conf"]
        (folder / "50-other.conf").unlink()
        template.chmod(0o666)
        with pytest.raises(FailedPrecondition, match="template: can be written by others than root"):
            confs.render(str(template), ["10.9.0.0/24"])
        with pytest.raises(FailedPrecondition, match=r"network.config_template: /nowhere: No such file"):
            confs.render("/nowhere", ["10.9.0.0/24"])
        assert list(folder.iterdir()) == []


async def test_what_the_plugins_say_is_part_of_the_readiness(tmp_path: Path) -> None:
    (tmp_path / "10-a.conflist").write_text(conf("a"))
    async with watched(tmp_path) as confs:
        network = confs.network()
        confs.set_status(network, "plugin bridge: not now")
        assert "plugin bridge: not now" in confs.readiness().message
        assert confs.network() == network  # an ADD that is asked for is tried
        (tmp_path / "05-b.conflist").write_text(conf("b"))
        assert confs.readiness().ready  # what was said was said of another
        (tmp_path / "05-b.conflist").unlink()
        confs.set_status(network, "")
        assert confs.readiness().ready


async def test_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "10-a.conflist").open("wb") as file:
        file.truncate(1 << 30)
    async with watched(tmp_path) as confs:
        assert "larger than 1048576 bytes" in confs.readiness().message
