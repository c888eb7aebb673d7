"""ExecSync."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.harness import host
from tests.harness.cri import NOT_FOUND, Cri, Pod, outcome, refused
from tests.harness.daemon import Daemon


@pytest.fixture
def container(pod: Pod) -> str:
    return pod.shell("sleep 600")


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_streams_are_apart_and_the_exit_code_is_the_commands(pods, cri: Cri, handler: str) -> None:
    container = pods(handler=handler).shell("sleep 600")
    done = cri.exec(container, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 5)


def test_binary_and_large_output_is_whole(container: str, cri: Cri) -> None:
    done = cri.exec(container, "sh", "-c", r"printf '\000\377\n'; head -c 3000000 /dev/zero")
    assert done.stdout[:3] == b"\x00\xff\n"
    assert len(done.stdout) == 3_000_003


def test_a_command_that_takes_too_long_is_ended(container: str, cri: Cri) -> None:
    began = time.monotonic()
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        cri.exec(container, "sh", "-c", "sleep 321; true", timeout=1)
    assert time.monotonic() - began < 8
    host.until("its processes are gone", lambda: "sleep 321" not in cri.output(container, "ps"))


def test_a_command_that_does_not_exist_is_told(container: str, cri: Cri) -> None:
    said = outcome(lambda: cri.exec(container, "/no/such/program"))
    # The peers differ: an error of the call, or a shell's exit code with the words on stderr. Both are clear.
    assert isinstance(said, grpc.RpcError) or said.exit_code in (126, 127)
    assert "/no/such/program" in (said.details() if isinstance(said, grpc.RpcError) else said.stderr.decode())


def test_a_container_that_does_not_run_is_refused(pod: Pod, cri: Cri) -> None:
    created = pod.create("sleep", "600")
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        cri.exec(created, "true")
    with refused(NOT_FOUND):
        cri.exec("f" * 64, "true")


def test_an_exec_leaves_nothing(container: str, cri: Cri, daemon: Daemon) -> None:
    cri.exec(container, "true")
    before = len(host.processes(daemon.folder))
    for _ in range(5):
        cri.exec(container, "true")
    host.until("exec's own processes are gone", lambda: len(host.processes(daemon.folder)) <= before)


def test_a_command_that_was_ended_leaves_no_zombie(container: str, cri: Cri) -> None:
    """The container's first process reaps nothing: whoever started the command must have."""
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        cri.exec(container, "sleep", "300", timeout=1)
    states = cri.output(container, "sh", "-c", "cat /proc/[0-9]*/status | grep State")
    assert "zombie" not in states, states


def test_output_beyond_16_mib_is_cut_off_on_each_stream(container: str, cri: Cri) -> None:
    done = cri.exec(container, "sh", "-c", "head -c 18000000 /dev/zero; head -c 17000000 /dev/zero >&2; exit 3")
    assert (len(done.stdout), len(done.stderr), done.exit_code) == (16 << 20, 16 << 20, 3)


def test_a_hundred_at_once(container: str, cri: Cri) -> None:
    with ThreadPoolExecutor(100) as threads:
        said = list(threads.map(lambda number: cri.output(container, "echo", str(number)), range(100)))
    assert said == [f"{number}\n" for number in range(100)]


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_a_command_has_its_three_streams_and_no_descriptor_of_crisps(cri, pods, handler):
    container = pods(handler=handler).shell("sleep 600")
    assert cri.output(container, "sh", "-c", "ls /proc/$$/fd; :").split() == ["0", "1", "2"]
