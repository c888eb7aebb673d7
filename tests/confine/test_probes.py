"""From inside each confined worker: what it must not be able to do fails, and what it is there for works."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.config.reading import load
from kernel.config.sections import Config
from kernel.supervisor.privileges import enforce, folders
from tests.harness.daemon import CHECKOUT

# what works, by worker; all else must fail
ALLOWED = {
    "image": {
        "write in its own folder", "look up a name", "read the resolver's file", "connect to tcp", "make a udp socket",
    },
    "stream": {"write in its own folder", "bind a tcp port", "make a udp socket"},
    "front": {"write in its own folder", "call the storage worker", "call the supervisor"},
    "storage": {
        # root's own files, with DAC_OVERRIDE: it writes layers, and takes ids, never paths
        "write in its own folder", "read the resolver's file", "look up a name", "read /etc/shadow", "read the state",
        "read a layer", "read a pod's secrets", "write in /tmp", "write in /etc", "write an archive into incoming",
        "call the storage worker", "call the supervisor",
        # SYS_ADMIN counts as leave to observe performance, which includes this much of a process's memory
        "read a process's environment",
        # mounts; and the children that unpack
        "mount", "make a file system", "make a user namespace", "clone a user namespace", "make a mount namespace",
        "enter a namespace", "run a program", "run a program from memory", "become root", "raise a capability",
    },
}  # fmt: skip
REFUSALS = {
    "EPERM", "EACCES",
    "ECONNREFUSED",  # an abstract socket of another network namespace is not there
    "[Errno -3] Temporary failure in name resolution",
}  # fmt: skip


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, system_users: None) -> Iterator[Config]:
    """Folders as the supervisor makes them, with a socket in each worker's place and a secret of a pod."""
    base = tmp_path_factory.mktemp("probe")
    for parent in (base, *base.parents):
        if parent.owner() == "root" and parent != Path("/") and not os.stat(parent).st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)
    file = base / "crisp.yaml"
    file.write_text(f"root: {base}/root\nrun: {base}/run\n")
    config = load(file)
    folders.make(config, lambda user: (enforce.account(user).pw_uid, enforce.account(user).pw_gid))
    config.paths.state_db.write_bytes(b"state")
    (base / "secret").write_bytes(b"token")
    (base / "secret").chmod(0o600)
    listeners = []
    for worker in ("storage", "supervisor"):
        listener = socket.socket(socket.AF_UNIX)
        path = config.paths.bus_dir(worker) / "probe"
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen()
        listeners.append(listener)
    yield config
    for listener in listeners:
        listener.close()
    for path in ("/tmp/crisp-probe-must-not-exist", "/etc/crisp-probe-must-not-exist"):
        Path(path).unlink(missing_ok=True)


@pytest.fixture(scope="module", params=sorted(ALLOWED))
def probed(request: pytest.FixtureRequest, roots: Config) -> tuple[str, dict[str, str]]:
    """The worker's name, and what came of each attempt."""
    worker = request.param
    base = Path(roots.root).parent
    with (
        subprocess.Popen(["sleep", "100"]) as foreign,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind(f"\0crisp-probe-{foreign.pid}")
        abstract.listen()
        environment = {**os.environ, "PROBE_PORT": str(tcp.getsockname()[1]), "PROBE_SECRET": str(base / "secret")}
        argv = [sys.executable, "-m", "tests.confine.probe", str(base / "crisp.yaml"), worker, str(foreign.pid)]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=60, env=environment, cwd=CHECKOUT, check=False
            )
        finally:
            foreign.kill()
        assert done.returncode == 0, done.stderr
    return worker, json.loads(done.stdout)


def test_what_it_must_not_fails(probed: tuple[str, dict[str, str]]) -> None:
    worker, outcomes = probed
    wrong = {name: said for name, said in outcomes.items() if name not in ALLOWED[worker] and said not in REFUSALS}
    assert not wrong, f"{worker} can"


def test_what_it_is_there_for_works(probed: tuple[str, dict[str, str]]) -> None:
    worker, outcomes = probed
    wrong = {name: outcomes[name] for name in ALLOWED[worker] if outcomes[name] != "ok"}
    assert not wrong, f"{worker} cannot"


def test_without_the_row_the_attempts_succeed(roots: Config) -> None:
    """The control: the probes do fail because of the confinement."""
    base = Path(roots.root).parent
    code = (
        "import sys; from kernel.supervisor.privileges import enforce; enforce.apply = lambda *_: None;"
        "from tests.confine import probe; probe.main()"
    )
    with subprocess.Popen(["sleep", "100"]) as foreign:
        environment = {**os.environ, "PROBE_PORT": "1", "PROBE_SECRET": str(base / "secret")}
        argv = [sys.executable, "-c", code, str(base / "crisp.yaml"), "image", str(foreign.pid)]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=60, env=environment, cwd=CHECKOUT, check=False
            )
        finally:
            foreign.kill()
    outcomes = json.loads(done.stdout)
    for name in (
        "read /etc/shadow", "write in /tmp", "signal process 1", "trace a process", "make a netlink socket",
        "make a packet socket", "make a mount namespace", "make a file system", "run a program", "bind a tcp port",
        "run a program from memory", "call the storage worker", "read the state", "signal by pidfd",
    ):  # fmt: skip
        assert outcomes[name] == "ok", name
