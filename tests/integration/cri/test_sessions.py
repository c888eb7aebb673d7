"""Exec, Attach and PortForward through the URLs that the CRI hands out, as crictl and the kubelet use them."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import INVALID, NOT_FOUND, Cri, Pod, pod_config, refused
from tests.harness.daemon import Daemon
from tests.harness.streams import Command, Forward, Refused, Spdy, answer, ask, connect

FAILED = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture
def shell(pod: Pod) -> str:
    """A container to run commands in."""
    return pod.run("sleep", "1000")


def execute(cri: Cri, container: str, *cmd: str, protocol: str = "v4.channel.k8s.io", **flags: bool) -> Command:
    """An exec, with its client."""
    wanted = {"stdout": True, "stderr": not flags.get("tty"), **flags}
    url = cri.call("Exec", container_id=container, cmd=list(cmd), **wanted).url
    return Command(url, protocol=protocol, **wanted)


class TestExec:
    def test_output_and_exit_code(self, cri: Cri, shell: str) -> None:
        with execute(cri, shell, "sh", "-c", "echo out; echo err >&2; exit 7") as command:
            assert command.exit_code() == 7
            assert (command.output(), command.output("stderr")) == (b"out\n", b"err\n")

    def test_input_and_its_end(self, cri: Cri, shell: str) -> None:
        data = os.urandom(1 << 20)
        with execute(cri, shell, "sha256sum", stdin=True) as command:
            command.write(data, fin=True)
            assert command.exit_code() == 0
            assert command.output().split()[0].decode() == hashlib.sha256(data).hexdigest()

    def test_a_terminal(self, cri: Cri, shell: str) -> None:
        with execute(cri, shell, "sh", stdin=True, tty=True) as command:
            command.resize(133, 44)
            command.write(b"until [ \"$(stty size)\" = '44 133' ]; do :; done; echo sized; exit 5\n")
            assert command.exit_code() == 5
            assert b"sized\r\n" in command.output()

    def test_a_program_that_is_not_there(self, cri: Cri, shell: str) -> None:
        with execute(cri, shell, "/no/such/program") as command:
            found = command.result()
            assert found["status"] == "Failure"
            assert "no such file" in found["message"] or "not found" in found["message"] or "127" in str(found)

    def test_a_client_that_goes_ends_the_command(self, cri: Cri, shell: str) -> None:
        command = execute(cri, shell, "sh", "-c", "echo here; exec sleep 4711")
        command.until(command.streams["stdout"], b"here")
        assert "sleep 4711" in cri.output(shell, "ps")
        command.close()
        host.until("the command ends", lambda: "sleep 4711" not in cri.output(shell, "ps"))

    def test_many_at_once(self, cri: Cri, shell: str) -> None:
        def one(number: int) -> bytes:
            with execute(cri, shell, "cat", stdin=True) as command:
                command.write(b"%d" % number, fin=True)
                assert command.exit_code() == 0
                return command.output()

        with ThreadPoolExecutor(16) as threads:
            assert list(threads.map(one, range(64))) == [b"%d" % number for number in range(64)]

    def test_by_websocket(self, cri: Cri, shell: str) -> None:
        url = cri.call("Exec", container_id=shell, cmd=["sh", "-c", "echo out; exit 7"], stdout=True).url
        headers = (
            "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: v5.channel.k8s.io",
        )  # fmt: skip
        with connect(url) as end:
            end.sendall(ask(url, *headers, method="GET"))
            status, _, got = answer(end)
            assert status == 101
            while piece := end.recv(65536):
                got += piece
        assert b"\x01out\n" in got  # the channel's number, then what came on it
        assert b'"reason":"NonZeroExitCode"' in got

    @pytest.mark.parametrize("handler", ["crun"])
    def test_by_another_runtime(self, pods: Callable[..., Pod], cri: Cri, handler: str) -> None:
        container = pods(handler=handler).run("sleep", "1000")
        with execute(cri, container, "sh", "-c", "cat; exit 3", stdin=True) as command:
            command.write(b"hi", fin=True)
            assert command.exit_code() == 3
            assert command.output() == b"hi"


class TestAttach:
    def attach(self, cri: Cri, container: str, **flags: bool) -> Command:
        wanted = {"stdout": True, "stderr": not flags.get("tty"), **flags}
        return Command(cri.call("Attach", container_id=container, **wanted).url, **wanted)

    def test_input_once_and_output(self, pod: Pod, cri: Cri) -> None:
        container = pod.run("sh", "-c", "cat; echo the end; echo of it >&2", stdin=True, stdin_once=True)
        with self.attach(cri, container, stdin=True) as command:
            command.write(b"hello\n")
            command.until(command.streams["stdout"], b"hello\n")
            command.write(b"", fin=True)
            assert command.result()["status"] == "Success"
            assert command.output() == b"hello\nthe end\n"
            assert command.output("stderr") == b"of it\n"
        cri.wait_exit(container)

    def test_input_that_stays_open(self, pod: Pod, cri: Cri) -> None:
        container = pod.run("sh", stdin=True)
        for number in range(2):
            with self.attach(cri, container, stdin=True) as command:
                command.write(b"echo answer %d\n" % number)
                command.until(command.streams["stdout"], b"answer %d\n" % number)
        assert cri.container(container).state == pb.CONTAINER_RUNNING

    def test_a_terminal(self, pod: Pod, cri: Cri) -> None:
        container = pod.run("sh", stdin=True, tty=True)
        with self.attach(cri, container, stdin=True, tty=True) as command:
            command.resize(101, 51)
            command.write(b"until [ \"$(stty size)\" = '51 101' ]; do :; done; echo si''zed\n")
            command.until(command.streams["stdout"], b"sized\r\n")

    def test_a_client_that_does_not_read_does_not_stop_the_container(self, pod: Pod, cri: Cri) -> None:
        script = "i=0; while [ $i -lt 20000 ]; do echo 'a line of a container with much to say'; i=$((i+1)); done"
        container = pod.run("sh", "-c", f"read x; {script}", stdin=True)
        silent = [self.attach(cri, container) for _ in range(5)]
        with self.attach(cri, container, stdin=True) as command:
            command.write(b"go\n")
            assert cri.wait_exit(container).exit_code == 0
        for one in silent:
            one.close()


class TestPortForward:
    def forward(self, cri: Cri, pod: str, **fields: object) -> Forward:
        return Forward(cri.call("PortForward", pod_sandbox_id=pod, **fields).url)

    def served(self, pod: Pod, port: int, address: str = "127.0.0.1") -> None:
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        container = pod.shell(f"mkdir /www; echo served > /www/index.html; exec httpd -f -p {place} -h /www")
        listening = f":{port:04X} "
        host.until("the port is open", lambda: listening in pod.cri.output(container, "sh", "-c", "cat /proc/net/tcp*"))

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_a_port_of_a_pod(self, pod: Pod, cri: Cri, address: str) -> None:
        self.served(pod, 8080, address)
        with self.forward(cri, pod.id) as client:
            for _ in range(2):
                error, data = client.pair(8080)
                client.send(data, b"GET / HTTP/1.0\r\n\r\n")
                client.drain(error, data)
                assert client.received[data].endswith(b"served\n")
                assert client.received[error] == b""

    def test_a_port_that_nobody_listens_on(self, pod: Pod, cri: Cri) -> None:
        with self.forward(cri, pod.id, port=[81]) as client:
            error, data = client.pair(81)
            client.drain(error, data)
            said = client.received[error].decode()
            assert said.startswith(f"error forwarding port 81 to pod {pod.id}")
            assert "connection refused" in said

    def test_a_pod_on_the_hosts_network(self, pods: Callable[..., Pod], daemon: Daemon, cri: Cri) -> None:
        pod = pods(pod_config(daemon.logs, network=pb.NODE))
        with socket.create_server(("127.0.0.1", 0)) as listener, self.forward(cri, pod.id) as client:
            _, data = client.pair(listener.getsockname()[1])
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"from the host")
                client.until(data, b"from the host")

    def test_a_pod_that_has_gone(self, pods: Callable[..., Pod], cri: Cri) -> None:
        pod = pods()
        with self.forward(cri, pod.id) as client:
            cri.stop_pod(pod.id)
            error, data = client.pair(80)
            client.drain(error, data)
            assert "not ready" in client.received[error].decode()
        with refused(FAILED, "not ready"):
            cri.call("PortForward", pod_sandbox_id=pod.id)

    @pytest.mark.parametrize("port", [0, -1, 65536])
    def test_what_is_no_port(self, pod: Pod, cri: Cri, port: int) -> None:
        with refused(INVALID, "port[0]"):
            cri.call("PortForward", pod_sandbox_id=pod.id, port=[port])


class TestRequests:
    def test_what_is_wrong_is_named(self, cri: Cri, shell: str, pod: Pod) -> None:
        with refused(INVALID, "cmd"):
            cri.call("Exec", container_id=shell, stdout=True)
        for name, more in (("Exec", {"cmd": ["true"]}), ("Attach", {})):
            with refused(INVALID, "stdin, stdout, stderr"):
                cri.call(name, container_id=shell, **more)
            with refused(INVALID, "stderr", "terminal"):
                cri.call(name, container_id=shell, tty=True, stdout=True, stderr=True, **more)
            with refused(NOT_FOUND):
                cri.call(name, container_id="f" * 64, stdout=True, **more)
            with refused(FAILED, "not running"):
                cri.call(name, container_id=pod.create("true"), stdout=True, **more)
        with refused(NOT_FOUND):
            cri.call("PortForward", pod_sandbox_id="f" * 64)

    def test_a_url_is_good_once_and_for_its_own_kind(self, cri: Cri, shell: str) -> None:
        url = cri.call("Exec", container_id=shell, cmd=["true"], stdout=True).url
        with pytest.raises(Refused, match="404"):
            Spdy(url.replace("/exec/", "/attach/"))
        Command(url, stderr=False).close()
        with pytest.raises(Refused, match="404"):
            Spdy(url)
