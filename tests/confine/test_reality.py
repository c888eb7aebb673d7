"""The live processes of a daemon against the table, both ways: nothing more than the row, and nothing less."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.bus.client import Client
from kernel.config import reading as configuration
from kernel.config.sections import Config
from kernel.contracts import supervisor as contract
from kernel.contracts.definition import Nothing
from kernel.contracts.supervisor import WorkerStatus
from kernel.errors import CrispError
from kernel.host.aio import Deadline
from kernel.supervisor.privileges.workers import PROCESSES, Net, Row
from tests.harness.daemon import Daemon

# Beside sockets, pipes and the event loop's own: files that a process may hold open.
FILES = {
    "supervisor": r"{root}/state/state\.db(-wal|-shm)?|{run}/daemon\.lock|net:\[\d+\]",
    "storage": r"{root}/.*",
    "runtime": r"{run}/runtime.*|{run}|cgroup|/sys/fs/cgroup.*",
    "network": r"{cni}.*",
}
ANYWHERE = r"socket:\[\d+\]|pipe:\[\d+\]|/dev/null|/dev/urandom|anon_inode:(\[[a-z]+\]|inotify)"


@pytest.fixture(scope="module")
def settings(own_daemon: Daemon) -> Config:
    return configuration.load(own_daemon.config_file)


@pytest.fixture(scope="module")
def live(own_daemon: Daemon, settings: Config) -> dict[str, WorkerStatus]:
    """The processes by name, once all serve."""

    async def ask() -> dict[str, WorkerStatus]:
        client = Client(contract.CONTRACT, settings.paths.bus("supervisor"))
        try:
            async with asyncio.timeout(40):
                while True:
                    with suppress(CrispError):
                        reply = await client.call(contract.WORKERS, Nothing(), deadline=Deadline.after(5))
                        if all(one.state == "ready" for one in reply.workers):
                            return {one.name: one for one in reply.workers}
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(own_daemon.tail()) from None
        finally:
            await client.close()

    return asyncio.run(ask())


def threads(pid: int) -> list[dict[str, str]]:
    """The status of every thread that lives on, by field; the process has at least one."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            lines = (task / "status").read_text().splitlines()
            found.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
    assert found
    return found


def whole() -> int:
    """All that this host gives to root."""
    return int(threads(os.getpid())[0]["CapBnd"], 16)


@pytest.mark.parametrize("one", PROCESSES, ids=lambda one: one.name)
class TestEachProcess:
    def test_user_and_groups(self, live: dict[str, WorkerStatus], settings: Config, one: Row) -> None:
        user = pwd.getpwnam(one.user(settings))
        for status in threads(live[one.name].pid):
            assert set(status["Uid"].split()) == {str(user.pw_uid)}
            assert set(status["Gid"].split()) == {str(user.pw_gid)}
            if one.capabilities is not None:
                assert status["Groups"].split() == []

    def test_capabilities(self, live: dict[str, WorkerStatus], one: Row) -> None:
        mask = whole() if one.capability_mask is None else one.capability_mask
        bounding = whole() if one.bounding else mask
        for status in threads(live[one.name].pid):
            found = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
            assert found == {"CapInh": 0, "CapPrm": mask, "CapEff": mask, "CapBnd": bounding, "CapAmb": 0}

    def test_seccomp_and_no_new_privs(self, live: dict[str, WorkerStatus], one: Row) -> None:
        for status in threads(live[one.name].pid):
            assert status["NoNewPrivs"] == str(int(one.no_new_privs))
            assert status["Seccomp"] == ("2" if one.seccomp else "0")
            assert status["Seccomp_filters"] == str(int(one.seccomp is not None))

    def test_memory(self, live: dict[str, WorkerStatus], one: Row) -> None:
        limits = Path(f"/proc/{live[one.name].pid}/limits").read_text()
        wanted = "unlimited" if one.memory is None else str(one.memory)
        assert re.search(rf"^Max data size +{wanted} +{wanted} ", limits, re.MULTILINE), limits
        if one.memory is not None:
            used = int(threads(live[one.name].pid)[0]["VmData"].split()[0]) << 10
            assert used < one.memory / 3, "an idle process has room"

    def test_namespaces(self, live: dict[str, WorkerStatus], one: Row) -> None:
        pid = live[one.name].pid
        for kind in ("mnt", "pid", "user", "ipc", "uts", "cgroup", "net"):
            same = os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
            assert same is (kind != "net" or one.net is Net.HOST), kind
        if one.net is Net.EMPTY:
            links = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
            assert [line.split(":")[0].strip() for line in links] == ["lo"]

    def test_descriptors(self, live: dict[str, WorkerStatus], settings: Config, own_daemon: Daemon, one: Row) -> None:
        places = {"root": settings.root, "run": settings.run, "cni": settings.network.config_dir}
        own = FILES.get(one.name, "nothing").format(**places)
        allowed = re.compile(f"{ANYWHERE}|{re.escape(str(own_daemon.log))}|{own}")
        folder = Path(f"/proc/{live[one.name].pid}/fd")
        found = {fd.name: os.readlink(fd) for fd in folder.iterdir()}
        assert {fd: target for fd, target in found.items() if not allowed.fullmatch(target)} == {}
        assert found["0"] == "/dev/null"
        assert found["1"] == found["2"] == str(own_daemon.log)

    def test_the_bus_answers_as_proc_says(self, live: dict[str, WorkerStatus], one: Row) -> None:
        status = threads(live[one.name].pid)[0]
        shown = live[one.name]
        assert shown.uid == int(status["Uid"].split()[1])
        assert shown.seccomp == {"0": "disabled", "2": "filter"}[status["Seccomp"]]
        assert shown.no_new_privs is (status["NoNewPrivs"] == "1")
        assert len(shown.capabilities) == int(status["CapEff"], 16).bit_count()


def test_only_the_table_is_running(live: dict[str, WorkerStatus], own_daemon: Daemon) -> None:
    names = sorted(process.name() for process in own_daemon.own_processes())
    assert names == sorted(f"crisp-{one.name}" for one in PROCESSES)
    assert set(live) == {one.name for one in PROCESSES}


def test_folders_let_in_callers_only(live: dict[str, WorkerStatus], settings: Config) -> None:
    front = pwd.getpwnam(settings.user)
    for one in PROCESSES:
        if one.contract:
            folder = settings.paths.bus_dir(one.name).stat()
            assert folder.st_mode & 0o7777 == 0o2750
            assert (folder.st_uid, folder.st_gid) == (pwd.getpwnam(one.user(settings)).pw_uid, front.pw_gid)
            socket = (settings.paths.bus_dir(one.name) / "calls").stat()
            assert (socket.st_gid, socket.st_mode & 0o666) == (front.pw_gid, 0o660)
    assert settings.paths.socket.resolve() == settings.paths.front_socket
    assert settings.paths.front_socket.stat().st_mode & 0o007 == 0
