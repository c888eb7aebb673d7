"""Measure how many bytes a second go to a command and come back.

This is a program of its own, so that it shares no interpreter with the server. `python -m tests.harness.stream_speed
URL MEBIBYTES` is for a session whose command is `cat`; data to a URL of `tcp://host:port` comes back from that host.
It prints bytes per second.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

from kernel.stream.wires import spdy
from tests.harness import host
from tests.harness.streams import Command

PIECE = 128 << 10


def through_spdy(url: str, size: int) -> None:
    with Command(url, stdin=True) as command:
        stdin = command.streams["stdin"]
        while stdin not in command.replied:
            command.pump()

        def send() -> None:
            piece = bytes(PIECE)
            frame = command.spdy.data(stdin, PIECE) + piece
            for _ in range(size // PIECE):
                command.socket.sendall(frame)
            command.socket.sendall(command.spdy.data(stdin, 0, fin=True))

        sender = threading.Thread(target=send)
        sender.start()
        buffer = memoryview(bytearray(1 << 20))
        stdout, got = command.streams["stdout"], 0
        while True:
            count = command.socket.recv_into(buffer)
            assert count, "the server has gone"
            for event in command.spdy.receive(buffer[:count], time.monotonic()):
                if isinstance(event, spdy.Data) and event.stream == stdout:
                    got += len(event.data)
                    if event.fin:
                        assert got == size, f"{got} of {size} bytes came back"
                        sender.join()
                        return


def raw(url: str, size: int) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), 60) as end:

        def send() -> None:
            piece = bytes(PIECE)
            for _ in range(size // PIECE):
                end.sendall(piece)
            end.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        buffer = memoryview(bytearray(1 << 20))
        got = 0
        while count := end.recv_into(buffer):
            got += count
        assert got == size, f"{got} of {size} bytes came back"
        sender.join()


def relay(listener: socket.socket) -> None:
    """Copy a client's bytes to `cat` and back, by hand."""
    end, _ = listener.accept()
    with end, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:

        def there() -> None:
            buffer = memoryview(bytearray(256 << 10))
            while count := end.recv_into(buffer):
                piece = buffer[:count]
                while piece:
                    piece = piece[os.write(cat.stdin.fileno(), piece) :]
            cat.stdin.close()

        sender = threading.Thread(target=there)
        sender.start()
        buffer = memoryview(bytearray(256 << 10))
        while count := os.readv(cat.stdout.fileno(), [buffer]):
            end.sendall(buffer[:count])
        sender.join()


def measured(url: str, mebibytes: int) -> float:
    """Return bytes per second, measured by a client in a process of its own."""
    argv = [sys.executable, "-m", "tests.harness.stream_speed", url, str(mebibytes)]
    return float(host.run(*argv, limit=300))


def by_hand(mebibytes: int) -> float:
    """Return bytes per second through a socket, two pipes and `cat` without any protocol."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relaying = threading.Thread(target=relay, args=(listener,))
        relaying.start()
        speed = measured(f"tcp://127.0.0.1:{listener.getsockname()[1]}", mebibytes)
        relaying.join()
    return speed


def main() -> None:
    url, size = sys.argv[1], int(sys.argv[2]) << 20
    began = time.monotonic()
    (raw if url.startswith("tcp:") else through_spdy)(url, size)
    print(size / (time.monotonic() - began))


if __name__ == "__main__":
    main()
