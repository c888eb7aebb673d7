"""`crisp top` on a real daemon: once, as JSON, and live on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from tests.harness import host
from tests.harness.daemon import CHECKOUT, Daemon

BUSY = "while :; do i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; sleep 0.05; done"
LEAVE_SCREEN = b"\x1b[?25h\x1b[?1049l"
"""The cursor, and the screen of before."""
WORKERS = {"supervisor", "spawner", "front", "stream", "image", "storage", "network", "runtime"}


@pytest.fixture(scope="module")
def pods(daemon: Daemon, busybox_ref: str) -> Iterator[tuple[str, str]]:
    """A busy pod and one that sleeps, by name."""
    daemon.command("run", "--detach", "--name", "topidle", busybox_ref, "sleep", "300")
    daemon.command("run", "--detach", "--name", "topbusy", busybox_ref, "sh", "-c", BUSY)
    yield "topbusy", "topidle"
    daemon.command("rm", "--force", "topbusy", "topidle")


class Screen:
    """`crisp top` on a terminal of the test's, of 40 lines and 120 columns."""

    def __init__(self, daemon: Daemon, *argv: str, term: str = "xterm") -> None:
        self._end, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), "top", *argv],
            cwd=CHECKOUT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**environment, "TERM": term},
        )  # fmt: skip
        self.written = b""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)
        os.close(self._theirs)

    def type(self, keys: bytes) -> None:
        """Type, and forget what was written before."""
        self.written = b""
        os.write(self._end, keys)

    def until(self, what: str, pattern: str) -> None:
        """Wait until a whole frame that was written after the last key matches, colours and movements left out."""
        end = time.monotonic() + 30 * host.SLOWNESS
        while not re.search(pattern, self.text(), re.DOTALL):
            assert time.monotonic() < end, f"{what}: {self.text()}"
            if select.select([self._end], [], [], 0.2)[0]:
                self.written += os.read(self._end, 65536)

    def drain(self) -> None:
        """Take what was written and is not read yet."""
        while select.select([self._end], [], [], 0)[0]:
            self.written += os.read(self._end, 65536)

    def text(self) -> str:
        """The last whole frame: each begins by moving the cursor home, and ends with the line of keys."""
        frames = [frame for frame in self.written.split(b"\x1b[H") if b"q quit" in frame]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frames[-1].decode(errors="replace")) if frames else ""

    def restored(self) -> bool:
        """Whether the terminal's settings are as before."""
        return termios.tcgetattr(self._theirs) == self.before


def test_once(daemon: Daemon, pods: tuple[str, str]) -> None:
    """Plain columns, of which every process has a rate."""
    table, _, of_pods = daemon.command("top", "--once", "--interval", "1").stdout.partition("\n\n")
    header, *lines = table.splitlines()
    assert header.split() == ["NAME", "STATE", "PID", "CPU%", "MEMORY", "THREADS", "FILES", "RESTARTS", "UPTIME"]
    by_name = {line.split()[0]: line.split() for line in lines}
    assert by_name.keys() == WORKERS
    pids = daemon.workers()
    for name, cells in by_name.items():
        assert cells[1:3] == ["ready", str(pids[name])]
        assert float(cells[3]) >= 0
    header, *lines = of_pods.splitlines()
    assert header.split()[:4] == ["ID", "POD", "CONTAINER", "CPU%"]
    assert [line.split()[1:3] for line in lines] == [
        ["topbusy", "-"], ["topbusy", "topbusy"], ["topidle", "-"], ["topidle", "topidle"],
    ]  # fmt: skip
    assert daemon.command("top").stdout.splitlines()[0] == table.splitlines()[0]  # so in a pipe without --once


def test_json(daemon: Daemon, pods: tuple[str, str]) -> None:
    found = json.loads(daemon.command("top", "--json", "--interval", "1").stdout)
    processes = {one["name"]: one for one in found["processes"]}
    assert processes.keys() == WORKERS
    for one in processes.values():
        assert one["cpu"] >= 0
        assert one["memory"] > 1_000_000
        assert one["threads"] >= 1
        assert one["open_files"] >= 3
        assert one["uptime"] > 0
    busy, idle = sorted(found["pods"], key=lambda pod: pod["name"])
    assert (busy["name"], idle["name"], busy["namespace"]) == ("topbusy", "topidle", "crisp")
    assert busy["cpu"] > idle["cpu"]
    assert busy["processes"] >= 1
    assert busy["received"] >= 0
    assert busy["receive_rate"] >= 0
    (container,) = busy["containers"]
    assert container["memory"] > 0
    assert container["cpu"] > 0


def test_the_live_view(daemon: Daemon, pods: tuple[str, str]) -> None:
    with Screen(daemon, "--interval", "0.5") as screen:
        screen.until("the busiest pod is first", r"crisp: 8 processes.*MEMORY.*topbusy.*topidle")
        assert not screen.restored()
        screen.type(b"a")
        screen.until("by name", r"\bfront .*\bimage .*\bstream .*\bsupervisor .*topbusy.*topidle.*ascending.*q quit")
        screen.type(b"a")
        screen.until(
            "the last name first", r"\bsupervisor .*\bstream .*\bimage .*\bfront .*topidle.*topbusy.*descending"
        )
        screen.type(b"s")
        screen.until("processes alone", r"shown: crisp")
        assert "CONTAINER" not in screen.text()
        screen.type(b"\x1b[C")
        screen.until("the order that follows the name", r"descending")
        screen.type(b"q")
        assert screen.process.wait(30 * host.SLOWNESS) == 0
        assert screen.restored()


def test_the_live_view_goes_on_without_a_process(daemon: Daemon, pods: tuple[str, str]) -> None:
    with Screen(daemon, "--interval", "0.5") as screen:
        screen.until("it is there", r"topbusy")
        daemon.kill("front")
        screen.type(b"r")
        screen.until("the front's restart is counted", r"\bfront +ready +\d+ +\S+ +\S+ MB +\d+ +\d+ +1 .*topbusy")
        screen.type(b"q")
        assert screen.process.wait(30 * host.SLOWNESS) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_restores_the_terminal(daemon: Daemon, number: int, status: int) -> None:
    with Screen(daemon) as screen:
        screen.until("it is there", r"q quit")
        screen.process.send_signal(number)
        assert screen.process.wait(30 * host.SLOWNESS) == status
        assert screen.restored()
        screen.drain()
        assert screen.written.endswith(LEAVE_SCREEN), screen.written[-200:]


def test_a_terminal_that_cannot_move_its_cursor_gets_it_once(daemon: Daemon) -> None:
    with Screen(daemon, term="dumb") as screen:
        assert screen.process.wait(30 * host.SLOWNESS) == 0
        screen.drain()
        assert b"supervisor" in screen.written
        assert b"\x1b" not in screen.written


def test_no_daemon(daemon: Daemon) -> None:
    config = daemon.folder / "none.yaml"
    config.write_text(f"root: {daemon.folder}/none\nrun: {daemon.folder}/nowhere\n")
    for argv in (["top", "--once"], ["top", "--json"], ["top"]):
        done = subprocess.run(
            [sys.executable, "-m", "kernel.cli.main", "--config", str(config), *argv],
            cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr.startswith("crisp: socket ")
        assert done.stderr.count("\n") == 1
    assert daemon.command("top", "--interval", "0", check=False).returncode == 2
