"""The privilege table itself: every row is whole, and none has more than the design says."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from kernel.config.sections import Config, ImageSection, StreamSection
from kernel.contracts.definition import Contract
from kernel.errors import NotFound
from kernel.supervisor.privileges import workers
from kernel.supervisor.privileges.workers import (
    CAPABILITIES,
    FRONT,
    IMAGE,
    PROCESSES,
    RUNTIME,
    STORAGE,
    STREAM,
    WORKERS,
    Net,
    Row,
    row,
)

CONFIG = Config(root="/r", run="/n")


@pytest.mark.parametrize("one", PROCESSES, ids=lambda one: one.name)
def test_a_row_names_known_things(one: Row) -> None:
    assert one.user(CONFIG)
    assert one.capabilities is None or one.capabilities <= CAPABILITIES.keys()
    assert set(one.callers) <= {process.name for process in PROCESSES}
    if one.contract:
        contract = importlib.import_module(one.contract).CONTRACT
        assert isinstance(contract, Contract)
        assert contract.worker == one.name


@pytest.mark.parametrize("one", WORKERS, ids=lambda one: one.name)
def test_an_entry_point_is_there(one: Row) -> None:
    module, _, function = one.entry.partition(":")
    assert inspect.iscoroutinefunction(getattr(importlib.import_module(module), function))
    assert row(one.name) is one


def test_nothing_that_containers_inherit_is_on_their_way() -> None:
    for one in (RUNTIME, workers.SPAWNER, workers.SUPERVISOR):
        assert (one.bounding, one.no_new_privs, one.seccomp, one.landlock) == (True, False, None, None)
    assert RUNTIME.capabilities is None
    assert RUNTIME.net is Net.HOST


def test_those_that_read_foreign_bytes_have_no_privilege() -> None:
    for one in (FRONT, IMAGE, STREAM):
        assert one.capability_mask == 0
        assert one.user(CONFIG) != "root"
        assert one.no_new_privs
        assert one.landlock is not None
        assert one.landlock.files is not None
        assert one.seccomp is not None
        assert (one.seccomp.execve, one.seccomp.mounts, one.seccomp.namespaces) == (False, False, False)


def test_only_some_reach_a_network_of_their_own_will() -> None:
    assert {one.name for one in PROCESSES if one.net is Net.HOST} == {
        "spawner",
        "image",
        "network",
        "runtime",
        "stream",
    }


def test_only_the_stream_server_takes_connections_and_it_makes_none() -> None:
    confined = {one.name: one.landlock for one in PROCESSES if one.landlock}
    assert [name for name, landlock in confined.items() if landlock.bind] == ["stream"]
    assert not confined["stream"].connect


def test_the_stream_server_reads_its_certificate_and_writes_in_its_own_folders() -> None:
    assert STREAM.landlock is not None
    assert STREAM.landlock.files is not None
    given = Config(run="/n", stream=StreamSection(tls_cert="/etc/crisp/tls/cert.pem"))
    assert Path("/etc/crisp/tls") in STREAM.landlock.files.readable(given)
    ours = [path for path in STREAM.landlock.files.writable(given) if Path("/dev") not in path.parents]
    assert ours == [Path("/n/stream"), Path("/n/bus/stream")]


def test_the_image_worker_writes_only_in_its_own_folder() -> None:
    assert IMAGE.landlock is not None
    assert IMAGE.landlock.files is not None
    ours = [path for path in IMAGE.landlock.files.writable(CONFIG) if Path("/dev") not in path.parents]
    assert ours == [Path("/r/image"), Path("/n/bus/image")]


def test_masks() -> None:
    assert STORAGE.capability_mask == 0x8820001B
    assert workers.NETWORK.capability_mask == 0x203002
    assert RUNTIME.capability_mask is None


def test_an_unknown_worker() -> None:
    with pytest.raises(NotFound, match="no worker is named 'x'"):
        row("x")


def test_capabilities_are_numbered_without_gaps() -> None:
    assert sorted(CAPABILITIES.values()) == list(range(41))


def test_every_grant_says_what_needs_it() -> None:
    source = Path(workers.__file__).read_text().splitlines()
    names = {f'"{name}",' for name in CAPABILITIES}
    granted = [line.strip() for line in source if line.strip().split(" ")[0] in names]
    assert granted
    assert all("  # " in line for line in granted), granted


def test_the_image_worker_reads_the_credentials_that_are_configured() -> None:
    given = Config(image=ImageSection(global_auth_file="/etc/crisp/auth.json"))
    assert IMAGE.landlock is not None
    assert IMAGE.landlock.files is not None
    readable = IMAGE.landlock.files.readable
    assert Path("/etc/crisp") in readable(given)  # its folder: the file may be replaced while the worker runs
    for folder in ("/etc", "/var/lib/kubelet"):  # there is more in these
        loose = Config(image=ImageSection(global_auth_file=f"{folder}/config.json"))
        assert Path(f"{folder}/config.json") in readable(loose)
        assert Path(folder) not in readable(loose)
    assert all(path.is_absolute() for path in readable(CONFIG))
