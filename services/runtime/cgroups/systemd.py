"""Slices of pods and scopes of conmons, made and ended by systemd: below a slice, no other program may make a cgroup.

Run by the runtime worker in threads, as root, over the system bus; the OCI runtime makes the containers' own scopes in
the same way. Rules kept: a call returns when systemd's job is done, not when it is queued; making a unit that exists
and ending one that does not is success. Interface: org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path

from kernel.errors import DeadlineExceeded, Internal
from services.runtime.cgroups import dbus

BUS = Path("/run/dbus/system_bus_socket")
_SECONDS = 20.0
"""Seconds that one call may take, its job included."""
_SYSTEMD, _OBJECT = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_MANAGER = f"{_SYSTEMD}.Manager"
_DBUS, _DBUS_OBJECT = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_ENDED = f"type='signal',sender='{_SYSTEMD}',interface='{_MANAGER}',member='JobRemoved'"
_LAST = 4
"""The serial of the call itself; the calls before it open the connection and subscribe to the ends of jobs."""
_EXISTS, _MISSING = f"{_SYSTEMD}.UnitExists", f"{_SYSTEMD}.NoSuchUnit"


def make_slice(name: str) -> None:
    """Make a slice and the slices above it."""
    _start(name, {"Description": f"crisp pod {name}"})


def make_scope(path: str, pid: int) -> None:
    """Move a process into a scope of its own. The path is the slice's, then the scope's name."""
    above, _, name = path.rpartition("/")
    properties: dict[str, dbus.Property] = {
        "Description": f"crisp monitor {name}", "Slice": above.rpartition("/")[2], "PIDs": [pid],
        "CollectMode": "inactive-or-failed",
    }  # fmt: skip
    if not _start(name, properties):
        stop(name)  # left by an earlier attempt
        if not _start(name, properties):
            raise Internal(f"{name} exists and does not end")


def stop(name: str) -> None:
    """End a slice or scope with everything in it."""
    _job("StopUnit", dbus.Body().text(name, "replace"), name, but=_MISSING)


def _start(name: str, properties: Mapping[str, dbus.Property]) -> bool:
    """Start a unit. Return False if one of this name exists."""
    body = dbus.Body().text(name, "replace").properties(properties).no_units()
    return _job("StartTransientUnit", body, name, but=_EXISTS)


def _job(member: str, body: dbus.Body, unit: str, *, but: str) -> bool:
    """Call the manager and wait for the job in its reply. Return False if it replies with the error `but`.

    DeadlineExceeded if systemd does not answer in time, Internal for every other failure.
    """
    hello = dbus.call(1, _DBUS, _DBUS_OBJECT, _DBUS, "Hello", dbus.Body())
    match = dbus.call(2, _DBUS, _DBUS_OBJECT, _DBUS, "AddMatch", dbus.Body().text(_ENDED))
    subscribe = dbus.call(3, _SYSTEMD, _OBJECT, _MANAGER, "Subscribe", dbus.Body())
    wanted = dbus.call(_LAST, _SYSTEMD, _OBJECT, _MANAGER, member, body)
    end = time.monotonic() + _SECONDS
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bus:
            bus.settimeout(_SECONDS)
            bus.connect(str(BUS))
            bus.sendall(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n" + hello + match + subscribe + wanted)  # 30: "0", root
            _authenticated(bus)
            return _await(bus, f"{member} {unit}", but, end)
    except TimeoutError as error:
        raise DeadlineExceeded(f"{member} {unit}: systemd does not answer within {_SECONDS:g} s") from error
    except OSError as error:
        raise Internal(f"{member} {unit}: systemd cannot be reached at {BUS}: {error.strerror}") from error


def _authenticated(bus: socket.socket) -> None:
    line = b""
    while not line.endswith(b"\r\n"):
        line += _exactly(bus, 1)
    if not line.startswith(b"OK "):
        raise Internal(f"{BUS} does not accept this process as root: {line[:64].decode(errors='replace').strip()}")


def _await(bus: socket.socket, what: str, but: str, end: float) -> bool:
    job, results = "", dict[str, str]()
    while not job or job not in results:
        if (left := end - time.monotonic()) <= 0:
            raise TimeoutError
        bus.settimeout(left)
        fixed = _exactly(bus, dbus.FIXED)
        message = dbus.parse(fixed + _exactly(bus, dbus.size(fixed) - dbus.FIXED))
        if message.kind == dbus.ERROR:
            if message.error == but:
                return False
            raise Internal(f"{what}: {' '.join(message.words()) or message.error}")
        if message.kind == dbus.REPLY and message.reply_to == _LAST:
            job = message.words()[0]
        elif message.kind == dbus.SIGNAL and message.member == "JobRemoved":
            _, path, _, result = _job_removed(message)
            results[path] = result
    if results[job] != "done":
        raise Internal(f"{what}: systemd's job ended as {results[job]}")
    return True


def _job_removed(message: dbus.Message) -> tuple[str, ...]:
    words = tuple(message.words())
    if len(words) != 4:
        raise Internal(f"systemd's JobRemoved has other arguments than it should: {words}")
    return words


def _exactly(bus: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = bus.recv(count - len(data))
        if not chunk:
            raise Internal(f"{BUS}: the connection was closed")
        data += chunk
    return data
