"""Sessions of exec, attach and port-forward go on whichever process of crisp is killed beside the stream process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.harness import host
from tests.harness.cri import Cri, Pod
from tests.harness.daemon import Daemon
from tests.harness.streams import Command, Forward


class Sessions:
    """One of each kind, under way."""

    def __init__(self, cri: Cri, pod: Pod) -> None:
        self.cri = cri
        self.pod = pod
        self.container = pod.shell("mkdir /www; echo served > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www")
        host.until("the port is open", lambda: ":1F90 " in cri.output(self.container, "cat", "/proc/net/tcp"))
        url = cri.call(
            "Exec", container_id=self.container, cmd=["sh", "-c", "cat; exit 7"], stdin=True, stdout=True
        ).url
        self.exec = Command(url, stdin=True, stderr=False)
        self.attached = pod.run("sh", "-c", "cat; echo bye", stdin=True, stdin_once=True)
        url = cri.call("Attach", container_id=self.attached, stdin=True, stdout=True).url
        self.attach = Command(url, stdin=True, stderr=False)
        self.forward = Forward(cri.call("PortForward", pod_sandbox_id=pod.id).url)
        self.say("before")

    def say(self, word: str) -> None:
        """Each session does its work."""
        text = f"{word}\n".encode()
        for session in (self.exec, self.attach):
            session.write(text)
            session.until(session.streams["stdout"], text)
        error, data = self.forward.pair(8080)
        self.forward.send(data, b"GET / HTTP/1.0\r\n\r\n")
        self.forward.drain(error, data)
        assert self.forward.received[data].endswith(b"served\n"), self.forward.received[error]

    def end(self) -> None:
        """Each ends as it would have."""
        for session, code in ((self.exec, 7), (self.attach, 0)):
            session.write(b"", fin=True)
            assert session.exit_code() == code

    def close(self) -> None:
        for one in (self.exec, self.attach, self.forward):
            one.close()


@pytest.fixture
def sessions(cri: Cri, pod: Pod) -> Iterator[Sessions]:
    made = Sessions(cri, pod)
    yield made
    made.close()


def kill(daemon: Daemon, name: str) -> None:
    """SIGKILL, and wait until another serves in its place."""
    before = daemon.kill(name)
    host.until(f"the {name} process is another one", lambda: daemon.workers().get(name, before) not in (0, before))
    host.until("the daemon is ready", daemon.ready)


@pytest.mark.parametrize("victim", ["front", "runtime", "network", "supervisor", "spawner"])
def test_sessions_go_on(daemon: Daemon, sessions: Sessions, victim: str) -> None:
    kill(daemon, victim)
    sessions.say(f"after the {victim}")
    sessions.end()


def test_a_connection_that_is_asked_for_while_the_front_is_away(daemon: Daemon, sessions: Sessions) -> None:
    front = daemon.workers()["front"]
    os.kill(front, signal.SIGSTOP)
    error, data = sessions.forward.pair(8080)
    sessions.forward.send(data, b"GET / HTTP/1.0\r\n\r\n")
    os.kill(front, signal.SIGKILL)
    sessions.forward.drain(error, data)
    assert sessions.forward.received[data].endswith(b"served\n"), sessions.forward.received[error]
    host.until("the daemon is ready", daemon.ready)


def test_an_exec_whose_front_has_gone_is_refused_in_words(daemon: Daemon, sessions: Sessions) -> None:
    url = sessions.cri.call("Exec", container_id=sessions.container, cmd=["true"], stdout=True).url
    kill(daemon, "front")
    with Command(url, stderr=False) as command:
        assert "ask again" in command.result()["message"]


def test_urls_outlive_the_stream_process(daemon: Daemon, sessions: Sessions) -> None:
    url = sessions.cri.call("Exec", container_id=sessions.container, cmd=["echo", "hi"], stdout=True).url
    before = daemon.kill("stream")
    host.until("another serves", lambda: daemon.workers().get("stream", before) not in (0, before))
    # The front tells it anew whom to expect, before it hears of another client.
    other = sessions.cri.call("Exec", container_id=sessions.container, cmd=["true"], stdout=True).url
    with Command(other, stderr=False) as command:
        assert command.exit_code() == 0
    with Command(url, stderr=False) as command:
        assert command.exit_code() == 0
        assert command.output() == b"hi\n"
    sessions.exec.drain()
    assert sessions.exec.eof
