"""Sessions while processes of crisp are killed: all but the stream process can be, and nothing is left behind."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.harness import host
from tests.harness.cri import Cri, Pod
from tests.harness.daemon import Daemon
from tests.harness.streams import Command, Forward

ECHO = "while read x; do echo got $x; done; exit 9"


@pytest.fixture
def shell(pod: Pod) -> str:
    """A container to run commands in."""
    return pod.run("sleep", "1000")


def execute(cri: Cri, container: str, *cmd: str, **flags: bool) -> Command:
    wanted = {"stdin": True, "stdout": True, "stderr": not flags.get("tty"), **flags}
    return Command(cri.call("Exec", container_id=container, cmd=list(cmd), **wanted).url, **wanted)


def gone(cri: Cri, container: str, word: str) -> None:
    host.until(f"nothing is left of {word}", lambda: word not in cri.output(container, "ps"))


def restarted(daemon: Daemon, *names: str) -> None:
    """Kill processes at once and wait until all is well again."""
    before = daemon.workers()
    for name in names:
        daemon.kill(name)
    host.until(
        f"{names} are back", lambda: all(daemon.workers().get(name, 0) not in (0, before[name]) for name in names)
    )
    host.until("ready again", daemon.ready)


class Open:
    """One session of each kind."""

    def __init__(self, cri: Cri, pod: Pod, shell: str) -> None:
        self.served = pod.shell("exec nc -ll -p 8080 -e cat")
        host.until("the port is open", lambda: ":1F90 " in cri.output(shell, "sh", "-c", "cat /proc/net/tcp*"))
        self.attached = pod.run("sh", "-c", ECHO, stdin=True)
        self.exec = execute(cri, shell, "sh", "-c", ECHO)
        self.tty = execute(cri, shell, "sh", "-c", ECHO, tty=True)
        url = cri.call("Attach", container_id=self.attached, stdin=True, stdout=True, stderr=True).url
        self.attach = Command(url, stdin=True)
        self.forward = Forward(cri.call("PortForward", pod_sandbox_id=pod.id).url)
        _, self.data = self.forward.pair(8080)

    def all_answer(self, word: str) -> None:
        """Bytes go and come in each, and the port-forward makes a new connection."""
        for command in (self.exec, self.tty, self.attach):
            command.write(f"{word}\n".encode())
            command.until(command.streams["stdout"], f"got {word}".encode())
        self.forward.send(self.data, word.encode())
        self.forward.until(self.data, word.encode())
        error, another = self.forward.pair(8080)
        self.forward.send(another, b"again " + word.encode())
        self.forward.until(another, b"again " + word.encode())
        assert self.forward.received[error] == b""

    def close(self) -> None:
        for client in (self.exec, self.tty, self.attach, self.forward):
            client.close()


def test_sessions_go_on_whoever_is_killed(daemon: Daemon, cri: Cri, pod: Pod, shell: str) -> None:
    sessions = Open(cri, pod, shell)
    sessions.all_answer("first")
    for names in (["front"], ["runtime"], ["network"], ["supervisor"], ["spawner"], ["front", "runtime", "network"]):
        restarted(daemon, *names)
        sessions.all_answer(f"after-{'-'.join(names)}")
    daemon.command("restart", "runtime")
    sessions.all_answer("restarted")
    sessions.exec.write(b"", fin=True)
    assert sessions.exec.exit_code() == 9
    sessions.tty.write(b"\x04")
    assert sessions.tty.exit_code() == 9
    sessions.close()


def test_a_client_that_goes_while_nobody_is_there_to_hear_it_ends_its_command(
    daemon: Daemon, cri: Cri, shell: str
) -> None:
    command = execute(cri, shell, "sh", "-c", "echo up; (sleep 4712 &); sleep 4712")
    command.until(command.streams["stdout"], b"up")
    for name in ("front", "runtime"):
        daemon.kill(name)
    command.close()
    host.until("ready again", daemon.ready)
    gone(cri, shell, "sleep 4712")


def test_a_stream_process_that_is_killed_takes_its_commands_along(
    daemon: Daemon, cri: Cri, pod: Pod, shell: str
) -> None:
    sessions = Open(cri, pod, shell)
    sessions.all_answer("first")
    lost = execute(cri, shell, "sh", "-c", "echo up; sleep 4713")
    lost.until(lost.streams["stdout"], b"up")
    pending = cri.call("Exec", container_id=shell, cmd=["sh", "-c", "exit 3"], stdout=True, stderr=True).url
    restarted(daemon, "stream")
    gone(cri, shell, "sleep 4713")
    gone(cri, shell, "got")
    lost.drain()
    assert lost.eof
    lost.close()
    with Command(pending) as late:
        assert late.exit_code() == 3, "who has not come yet may still come"
    sessions.close()
    again = execute(cri, shell, "sh", "-c", ECHO)
    again.write(b"", fin=True)
    assert again.exit_code() == 9
    again.close()


def test_nothing_is_left_of_sessions_after_the_daemons_end(daemon: Daemon, cri: Cri, shell: str) -> None:
    """In order, or by SIGKILL to all of it at once."""
    for word, end in (("4715", daemon.stop), ("4716", daemon.kill_all)):
        command = execute(cri, shell, "sh", "-c", f"echo up; (sleep {word} &); sleep {word}")
        command.until(command.streams["stdout"], b"up")
        end()
        command.close()
        daemon.start()
        gone(cri, shell, word)
        host.until("no file is left of them", lambda: not session_files(daemon))


def test_a_runtime_worker_killed_while_commands_start_leaves_none_behind(daemon: Daemon, cri: Cri, shell: str) -> None:
    """Each client hears of an end, whatever its command had come to."""
    urls = [
        cri.call("Exec", container_id=shell, cmd=["sh", "-c", "sleep 0.2; exit 6"], stdout=True, stderr=True).url
        for _ in range(24)
    ]

    def one(url: str) -> int | str:
        with Command(url) as command:
            found = command.result()
            causes = found.get("details", {}).get("causes", [])
            return int(causes[0]["message"]) if found.get("reason") == "NonZeroExitCode" else str(found["message"])

    with ThreadPoolExecutor(24) as threads:
        futures = [threads.submit(one, url) for url in urls]
        host.until(
            "some have started", lambda: "sleep 0.2" in cri.output(shell, "ps") or any(f.done() for f in futures)
        )
        restarted(daemon, "runtime")
        said = [future.result() for future in futures]
    assert 6 in said
    assert all(one == 6 or "runtime worker ended" in str(one) or "not wanted" in str(one) for one in said), said
    gone(cri, shell, "sleep 0.2")
    host.until("no file is left of them", lambda: not session_files(daemon))


def session_files(daemon: Daemon) -> list[object]:
    return [*(daemon.run / "runtime").glob("containers/*/session-*"), *(daemon.run / "runtime").glob("tty-*")]


def test_a_container_that_is_removed_ends_its_sessions(cri: Cri, pod: Pod, shell: str) -> None:
    plain, tty = [execute(cri, shell, "sh", "-c", "echo up; sleep 4714", tty=tty) for tty in (False, True)]
    for command in (plain, tty):
        command.until(command.streams["stdout"], b"up")
    cri.remove(shell)
    assert (plain.exit_code(), tty.exit_code()) == (137, 137)
    plain.close()
    tty.close()


def test_hundreds_of_sessions_at_once_cost_little(daemon: Daemon, cri: Cri, shell: str) -> None:
    def start(number: int) -> Command:
        return execute(cri, shell, "cat", tty=number % 4 == 0)

    def finish(item: tuple[int, Command]) -> bytes:
        number, command = item
        with command:
            command.write(b"%d\n" % number)
            command.until(command.streams["stdout"], b"%d%s\n" % (number, b"\r" if number % 4 == 0 else b""))
            command.write(b"\x04" if number % 4 == 0 else b"", fin=number % 4 != 0)
            assert command.exit_code() == 0
            return command.output().splitlines()[-1]

    with ThreadPoolExecutor(16) as threads:
        start(1).close()
        before = {name: memory(daemon, name) for name in ("stream", "runtime", "front")}
        commands = list(threads.map(start, range(200)))
        grown = {name: memory(daemon, name) - size for name, size in before.items()}
        said = list(threads.map(finish, enumerate(commands)))
    assert said == [b"%d" % number for number in range(200)]
    assert sum(grown.values()) < 60 << 20, grown
    host.until("no file is left of them", lambda: not session_files(daemon))
    descriptors = {name: len(os.listdir(f"/proc/{daemon.workers()[name]}/fd")) for name in ("stream", "runtime")}
    assert max(descriptors.values()) < 60, descriptors


def memory(daemon: Daemon, name: str) -> int:
    return int(psutil.Process(daemon.workers()[name]).memory_full_info().pss)


SIZE = int(os.environ.get("CRISP_TEST_STREAM_BYTES", str(128 << 20)))


def test_a_great_many_bytes_come_back_as_they_went(daemon: Daemon, cri: Cri, shell: str) -> None:
    sent, got, received = hashlib.sha256(), hashlib.sha256(), 0
    with execute(cri, shell, "cat", stderr=False) as command:
        stdin, stdout = command.streams["stdin"], command.streams["stdout"]
        pieces = [os.urandom(1 << 20) for _ in range(8)]

        def send() -> None:
            for number in range(SIZE >> 20):
                piece = pieces[number * 7 % 8]
                sent.update(piece)
                command.send(stdin, piece)
            command.send(stdin, b"", fin=True)

        sender = threading.Thread(target=send)
        sender.start()
        before = memory(daemon, "stream")
        while stdout not in command.ended:
            assert command.pump()
            got.update(command.received[stdout])
            received += len(command.received[stdout])
            command.received[stdout].clear()
        sender.join()
        grown = memory(daemon, "stream") - before
        assert command.exit_code() == 0
    assert (received, got.digest()) == (SIZE, sent.digest())
    assert grown < 8 << 20
