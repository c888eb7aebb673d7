"""How containers end: stop signals, grace, execs on the way, and a monitor that was killed."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import busybox_layer, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness.cri import Pod, refused
from tests.harness.host import until

SIGNALS = 'for s in TERM USR1 USR2 INT; do trap "echo $s; exit 0" $s; done; echo set; while :; do sleep 0.1; done'
STUBBORN = "trap 'echo asked' TERM; echo set; while :; do sleep 0.1; done"


def said(pod: Pod, container: str) -> list[str]:
    return [text for _, text in pod.log(container)]


def ready(pod: Pod, container: str) -> str:
    until("the container has set its traps", lambda: "set" in said(pod, container), 10)
    return container


@pytest.fixture(scope="module")
def with_signal(daemon, registry) -> str:
    """An image that asks to be stopped by SIGUSR1."""
    registry.push(image([busybox_layer().tar()], {"Cmd": ["sh"], "StopSignal": "SIGUSR1"}), "stopsignal", "latest")
    reference = f"{registry.address}/stopsignal:latest"
    daemon.cri.pull(reference)
    return reference


@pytest.mark.parametrize(
    ("of_image", "of_request", "heard"),
    [(False, None, "TERM"), (True, None, "USR1"), (True, pb.SIGNAL_SIGUSR2, "USR2"), (False, pb.SIGNAL_SIGINT, "INT")],
)
def test_the_stop_signal_is_the_requests_then_the_images_then_term(
    pod, cri, with_signal, busybox_ref, of_image, of_request, heard
):
    pod.image = with_signal if of_image else busybox_ref
    container = ready(pod, pod.shell(SIGNALS, stop_signal=of_request or pb.SIGNAL_RUNTIME_DEFAULT))
    cri.stop(container, 10)
    assert said(pod, container)[-1] == heard
    status = cri.container(container)
    assert (status.exit_code, status.reason) == (0, "Completed")
    assert pb.Signal.Name(status.stop_signal) == f"SIGNAL_SIG{heard}"


def test_a_later_shorter_stop_shortens_the_wait_and_a_longer_one_does_not_lengthen_it(pod, cri):
    container = ready(pod, pod.shell(STUBBORN))
    began = time.monotonic()
    with ThreadPoolExecutor(3) as threads:
        stops = [threads.submit(cri.stop, container, 50)]
        until("the signal was heard", lambda: "asked" in said(pod, container), 10)
        stops += [threads.submit(cri.stop, container, grace) for grace in (2, 40)]
        for stop in stops:
            stop.result(20)
    assert 1.5 < time.monotonic() - began < 15
    status = cri.container(container)
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 137, "Error")
    assert said(pod, container).count("asked") == 1


def test_commands_run_in_it_until_it_ends(pod, cri):
    container = ready(pod, pod.shell(STUBBORN))
    with ThreadPoolExecutor(1) as threads:
        stop = threads.submit(cri.stop, container, 3)
        until("the signal was heard", lambda: "asked" in said(pod, container), 10)
        assert cri.output(container, "echo", "still here") == "still here\n"
        stop.result(20)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        cri.exec(container, "true")


@pytest.mark.parametrize(("script", "code", "reason"), [("exit 0", 0, "Completed"), ("exit 41", 41, "Error")])
def test_a_container_outlives_its_monitor_and_its_exit_code_is_known(cri, pods, daemon, script, code, reason):
    pod = pods()
    container = pod.shell(f"until test -e /go; do sleep 0.1; done; {script}")
    pid = cri.pid(container)
    kill_monitor(daemon, container)
    until("status says so", lambda: "conmon" in cri.container(container).message, 10)
    status = cri.container(container)
    assert (status.state, cri.pid(container)) == (pb.CONTAINER_RUNNING, pid)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "conmon"):
        cri.call("ReopenContainerLog", container_id=container)
    daemon.command("restart", "runtime")
    assert "conmon" in cri.container(container).message
    cri.output(container, "touch", "/go")
    status = cri.wait_exit(container)
    assert (status.exit_code, status.reason) == (code, reason)
    assert "conmon" in status.message


def test_a_monitor_killed_while_nobody_looks_is_noticed_afterwards(cri, pods, daemon):
    container = pods().shell("until test -e /go; do sleep 0.1; done; exit 17")
    daemon.kill_all()
    kill_monitor(daemon, container)
    daemon.start()
    until("status says so", lambda: "conmon" in cri.container(container).message, 10)
    cri.output(container, "touch", "/go")
    assert cri.wait_exit(container).exit_code == 17


def kill_monitor(daemon, container: str) -> None:
    folder: Path = daemon.run / "runtime" / "containers" / container
    os.kill(int((folder / "conmon.pid").read_text()), signal.SIGKILL)
