"""`crisp exec -it`, `crisp attach` and `crisp port-forward` on a real daemon."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest

from tests.harness import host
from tests.harness.cri import Cri, Pod
from tests.harness.daemon import CHECKOUT, Daemon


class Typed:
    """crisp on a terminal of the test's."""

    def __init__(self, daemon: Daemon, *argv: str) -> None:
        self.end, theirs = pty.openpty()
        os.set_blocking(self.end, True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), *argv],
            cwd=CHECKOUT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = b""

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.end)

    def type(self, text: bytes) -> None:
        os.write(self.end, text)

    def until(self, text: bytes, limit: float = 30) -> None:
        end = time.monotonic() + limit
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.end], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.end, 65536)
                except OSError:  # it has ended
                    assert text in self.seen, self.seen

    def wait(self) -> int:
        return self.process.wait(30 * host.SLOWNESS)


def crisp(daemon: Daemon, *argv: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), *argv],
        cwd=CHECKOUT, input=data, capture_output=True, timeout=60 * host.SLOWNESS, check=False,
    )  # fmt: skip


class TestExec:
    def test_input_output_and_exit_code(self, daemon: Daemon, pod: Pod) -> None:
        container = pod.run("sleep", "1000")
        data = os.urandom(300_000)
        done = crisp(daemon, "exec", "-i", container, "sh", "-c", "cat; echo error >&2; exit 4", data=data)
        assert (done.returncode, done.stdout, done.stderr) == (4, data, b"error\n")

    def test_an_input_that_cannot_be_read_ends(self, daemon: Daemon, pod: Pod) -> None:
        """The command gets its end of file, and the user the reason."""
        container = pod.run("sleep", "1000")
        unreadable = os.open("/dev/null", os.O_WRONLY)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), "exec", "-i", container,
                 "sh", "-c", "cat; exit 3"],
                cwd=CHECKOUT, stdin=unreadable, capture_output=True, timeout=60 * host.SLOWNESS, check=False,
            )  # fmt: skip
        finally:
            os.close(unreadable)
        assert (done.returncode, done.stdout) == (3, b"")
        assert done.stderr == b"crisp: standard input cannot be read: Bad file descriptor\n"

    def test_a_terminal_that_changes_its_size(self, daemon: Daemon, pod: Pod) -> None:
        container = pod.run("sleep", "1000")
        with Typed(daemon, "exec", "-it", container, "sh") as typed:
            for width, height in ((111, 33), (77, 22)):
                fcntl.ioctl(typed.end, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
                typed.process.send_signal(signal.SIGWINCH)
                typed.type(b"stty size\n")
                end = time.monotonic() + 30
                while f"{height} {width}".encode() not in typed.seen and time.monotonic() < end:
                    time.sleep(0.2)
                    typed.type(b"stty size\n")
                    while select.select([typed.end], [], [], 0)[0]:
                        typed.seen += os.read(typed.end, 65536)
                assert f"{height} {width}".encode() in typed.seen
            typed.type(b"exit 0\n")
            assert typed.wait() == 0

    def test_a_terminal(self, daemon: Daemon, pod: Pod) -> None:
        container = pod.run("sleep", "1000")
        with Typed(daemon, "exec", "-it", container, "sh") as typed:
            typed.type(b"echo on a te''rminal; tty\n")
            typed.until(b"on a terminal")
            typed.until(b"/dev/pts/")
            typed.type(b"exit 6\n")
            assert typed.wait() == 6

    def test_a_timeout_is_of_the_other_kind(self, daemon: Daemon, pod: Pod) -> None:
        container = pod.run("sleep", "1000")
        done = crisp(daemon, "exec", "-i", "--timeout", "3", container, "true")
        assert (done.returncode, b"--timeout" in done.stderr) == (2, True)


class TestAttach:
    def test_input_and_output(self, daemon: Daemon, pod: Pod) -> None:
        container = pod.run("sh", "-c", "cat; echo done >&2", stdin=True, stdin_once=True)
        done = crisp(daemon, "attach", container, data=b"hello\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"done\n")

    def test_the_keys_that_leave(self, daemon: Daemon, pod: Pod, cri: Cri) -> None:
        container = pod.run("sh", stdin=True, tty=True)
        with Typed(daemon, "attach", container) as typed:
            typed.type(b"echo he''re\n")
            typed.until(b"here\r\n")
            typed.type(b"\x10\x11")
            assert typed.wait() == 0
        assert cri.pid(container)


class TestPortForward:
    @pytest.fixture
    def served(self, pod: Pod) -> Pod:
        container = pod.shell("mkdir /www; echo served > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www")
        host.until("the port is open", lambda: ":1F90 " in pod.cri.output(container, "cat", "/proc/net/tcp"))
        return pod

    def test_ports_of_this_host(self, daemon: Daemon, served: Pod) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), "port-forward", served.id,
             ":8080", ":81"],
            cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as forward:  # fmt: skip
            try:
                lines = [forward.stdout.readline() for _ in range(2)]
                first, second = (int(line.split()[0].rpartition(":")[2]) for line in lines)
                for _ in range(3):
                    with socket.create_connection(("127.0.0.1", first), 20) as end:
                        end.sendall(b"GET / HTTP/1.0\r\n\r\n")
                        end.shutdown(socket.SHUT_WR)
                        got = b""
                        while piece := end.recv(1000):
                            got += piece
                        assert got.endswith(b"served\n")
                with socket.create_connection(("127.0.0.1", second), 20) as end:
                    assert end.recv(10) == b""
                assert "connection refused" in forward.stdout.readline()
            finally:
                forward.send_signal(signal.SIGINT)
                forward.wait(20)

    def test_a_pod_that_is_not_there(self, daemon: Daemon) -> None:
        assert crisp(daemon, "port-forward", "nobody", "80").returncode == 3
