"""Networks that break, over the CRI: what the kubelet sees, what goes on beside it, and what is left."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest

from tests.harness import host
from tests.harness.cri import Cri, outcome, pod_config, refused
from tests.harness.daemon import Daemon, serving

PASS = "cat | sed 's/.*\"prevResult\"://; s/}$//'"
"""A plugin that answers with the result before."""


class Net:
    """A daemon whose chain has a plugin of the test's own after the bridge."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.cri: Cri = daemon.cri
        self.cni = daemon.folder / "cni"
        self.bin = daemon.folder / "bin"
        self.bin.mkdir()
        self.plugin(PASS)
        path = self.cni / "10-test.conflist"
        conflist = json.loads(path.read_text())
        conflist["plugins"].append({"type": "own"})
        path.write_text(json.dumps(conflist))

    def plugin(self, body: str) -> None:
        """What the plugin does from now on; `$SAID` is a file of its own."""
        fresh = self.bin / "fresh"
        fresh.write_text(f"#!/bin/sh\nSAID={self.daemon.folder}/said\n{body}\n")
        fresh.chmod(stat.S_IRWXU)
        fresh.rename(self.bin / "own")

    def said(self) -> str:
        path = self.daemon.folder / "said"
        return path.read_text() if path.exists() else ""

    def run(self, name: str, **options: object) -> str:
        return self.cri.run_pod(pod_config(self.daemon.logs, name), **options)

    def ready(self) -> str:
        """Why the network is not ready; empty where it is."""
        conditions = {one.type: one for one in self.cri.status().status.conditions}
        one = conditions["NetworkReady"]
        return "" if one.status else f"{one.reason}: {one.message}"


@pytest.fixture(scope="module")
def net(system_users: None) -> Iterator[Net]:
    mine = Daemon()
    made = Net(mine)
    with serving(mine, network={"plugin_dirs": [str(mine.folder / "bin"), "/usr/lib/cni", "/opt/cni/bin"]}):
        yield made


@pytest.fixture(autouse=True)
def mended(net: Net) -> Iterator[None]:
    """Each test begins with a plugin that works, and leaves nothing."""
    (net.daemon.folder / "said").unlink(missing_ok=True)
    yield
    net.plugin(PASS)
    net.daemon.remove_pods()
    host.until("nothing is left", lambda: not net.daemon.leaks(), 60)


def test_readiness_follows_the_folder(net: Net) -> None:
    """Away, and made again: seen at once, with the reason, also when nobody asks for a pod."""
    kept = (net.cni / "10-test.conflist").read_text()
    shutil.rmtree(net.cni)
    host.until("it is seen that the folder is gone", net.ready, 10)
    assert net.ready().startswith("NetworkPluginNotReady: ")
    assert f"No CNI configuration file in {net.cni}/" in net.ready()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "No CNI configuration file"):
        net.run("early")
    net.cni.mkdir()
    (net.cni / "10-test.conflist").write_text("{half")
    host.until("it is seen that the file is wrong", lambda: "not a JSON object" in net.ready(), 10)
    (net.cni / "10-test.conflist").write_text(kept)
    host.until("it is ready", lambda: not net.ready(), 10)
    net.run("late")


def test_a_plugin_that_fails_and_hangs_is_told_and_others_go_on(net: Net) -> None:
    net.plugin(
        f'case "$K8S$CNI_ARGS" in *=broken*) test "$CNI_COMMAND" = ADD && echo "own words" >&2 && exit 3;; esac; {PASS}'
    )
    with refused(grpc.StatusCode.INTERNAL, "plugin own: exit status 3: own words (ADD for network"):
        net.run("broken")
    net.run("whole")


def test_a_del_that_fails_is_tried_again_until_it_succeeds(net: Net) -> None:
    """Nobody asks for it: the pod that could not be made is taken away in the background."""
    mended = net.daemon.folder / "mended"
    net.plugin(f'echo "$CNI_COMMAND" >> $SAID; test -e {mended} && test "$CNI_COMMAND" = DEL && exit 0; exit 1')
    with refused(grpc.StatusCode.INTERNAL, "plugin own: exit status 1"):
        net.run("stuck")
    assert list((net.daemon.root / "network").glob("*.json"))
    host.until("DEL is tried again", lambda: net.said().count("DEL") >= 3, 30)
    mended.touch()
    host.until("nothing is left", lambda: not list((net.daemon.root / "network").glob("*")), 60)
    assert not list(net.daemon.leases.rglob("10.*"))
    mended.unlink()


def test_a_plugin_that_kills_its_parents_group_costs_a_delay(net: Net) -> None:
    net.plugin(f"test -e $SAID || {{ echo killed > $SAID; kill -KILL -$PPID; exit 1; }}; {PASS}")
    before = net.daemon.workers()["network"]
    net.run("struck")
    assert net.said() == "killed\n"
    assert net.daemon.workers()["network"] != before


def test_what_a_killed_daemon_left_in_the_middle_of_a_plugin_is_undone(net: Net) -> None:
    """All processes die while a plugin hangs; it has left its session. The next start ends it before it runs DEL."""
    hang = "setsid sleep 300 & echo $! > $SAID; wait"
    net.plugin(f'test "$CNI_COMMAND" = ADD && test ! -e $SAID && {{ {hang}; }}; {PASS}')
    config = pod_config(net.daemon.logs, "cut")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(outcome, lambda: net.cri.run_pod(config, limit=60))
        host.until("the plugin hangs", lambda: net.said().endswith("\n"))
        plugin = psutil.Process(int(net.said()))
        (lease,) = net.daemon.leases.rglob("10.*")
        net.daemon.kill_all()
        assert isinstance(asked.result(), grpc.RpcError)
    assert runs(plugin)
    net.daemon.start()
    sandbox = net.cri.run_pod(config, limit=60)  # the kubelet asks again
    assert not runs(plugin)
    assert [path.name for path in net.daemon.leases.rglob("10.*")] == [net.cri.pod(sandbox).network.ip] != [lease.name]


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_namespace_that_was_lost_keeps_no_address(net: Net) -> None:
    sandbox = net.run("lost")
    pin = net.daemon.run / "netns" / sandbox
    address = net.cri.pod(sandbox).network.ip
    subprocess.run(["umount", str(pin)], check=True)
    pin.unlink()
    net.cri.remove_pod(sandbox)
    assert not list(net.daemon.leases.rglob(address))
    assert not host.rules(sandbox)


def test_configurations_by_name_and_several_folders_of_plugins(net: Net) -> None:
    """The first file in order counts; one for which a plugin lies in no folder is not ready, by its name."""
    (net.cni / "05-first.conf").write_text('{"cniVersion": "1.0.0", "name": "first", "type": "nowhere"}')
    host.until("the first one counts", lambda: "plugin nowhere of network first" in net.ready(), 10)
    shutil.copy(net.bin / "own", net.bin / "nowhere")
    host.until("its plugin is seen", lambda: not net.ready(), 10)
    (net.cni / "05-first.conf").unlink()
    (net.bin / "nowhere").unlink()
    host.until("it is ready", lambda: not net.ready(), 10)
    assert Path("/usr/lib/cni/bridge").exists() or Path("/opt/cni/bin/bridge").exists()
    net.run("several")
