"""The order of rows, and what keys change."""

from __future__ import annotations

import pytest

from kernel.cli.output import Row, plain
from kernel.cli.usage.view import POD_COLUMNS, PROCESS_COLUMNS, Order, Shown, View

PROCESSES: list[Row] = [
    {"name": "supervisor", "state": "ready", "pid": 1, "cpu": 0.5, "memory": 16_000_000, "threads": 4,
     "open_files": 51, "restarts": 0, "uptime": 100.0},
    {"name": "image", "state": "ready", "pid": 2, "cpu": 20.0, "memory": 13_000_000, "threads": 6,
     "open_files": None, "restarts": 3, "uptime": 10.0},
    {"name": "front", "state": "starting", "pid": 0, "cpu": None, "memory": 0, "threads": None, "open_files": None,
     "restarts": 1, "uptime": 0.0},
]  # fmt: skip


def container(name: str, cpu: float | None, memory: int) -> Row:
    return {
        "id": name[0] * 64, "name": name, "cpu": cpu, "memory": memory, "writable_layer": memory, "processes": None,
        "receive_rate": None, "send_rate": None,
    }  # fmt: skip


def pod(name: str, cpu: float, memory: int, received: int | None, *containers: Row) -> Row:
    return {
        **container(name, cpu, memory), "namespace": "default", "processes": 2, "receive_rate": received,
        "send_rate": received, "containers": list(containers),
    }  # fmt: skip


PODS = [
    pod("a", 1.0, 300, 10, container("x", 0.1, 100), container("y", 0.9, 200)),
    pod("b", 5.0, 100, None),
    pod("c", 3.0, 200, 2000, container("z", 3.0, 200)),
]


def names(rows: list[Row]) -> list[object]:
    return [row.get("container") or row.get("pod") or row["name"] for row in rows]


@pytest.mark.parametrize(
    ("typed", "processes"),
    [
        ("", ["image", "supervisor", "front"]),  # what is not known comes last
        ("c", ["supervisor", "image", "front"]),  # the key of the order in force inverts it
        ("cc", ["image", "supervisor", "front"]),
        ("m", ["supervisor", "image", "front"]),
        ("mi", ["front", "image", "supervisor"]),
        ("t", ["image", "supervisor", "front"]),
        ("f", ["supervisor", "front", "image"]),
        ("r", ["image", "front", "supervisor"]),
        ("u", ["supervisor", "image", "front"]),
        ("a", ["front", "image", "supervisor"]),
        ("aa", ["supervisor", "image", "front"]),
        ("n", ["supervisor", "image", "front"]),  # no such value: as the supervisor lists them
        ("z", ["image", "supervisor", "front"]),
    ],
)
def test_processes_are_ordered_by_a_key(typed: str, processes: list[str]) -> None:
    assert names(pressed(typed).processes(PROCESSES)) == processes


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        ("", ["b", "c", "z", "a", "y", "x"]),
        ("c", ["a", "x", "y", "c", "z", "b"]),
        ("m", ["a", "y", "x", "c", "z", "b"]),
        ("l", ["a", "y", "x", "c", "z", "b"]),
        ("n", ["c", "z", "a", "x", "y", "b"]),
        ("p", ["a", "x", "y", "b", "c", "z"]),
        ("a", ["a", "x", "y", "b", "c", "z"]),
        ("t", ["b", "c", "z", "a", "y", "x"]),  # no such value: by CPU
    ],
)
def test_containers_follow_their_pod(typed: str, lines: list[str]) -> None:
    assert names(pressed(typed).pods(PODS)) == lines


def pressed(typed: str) -> View:
    view = View()
    for key in typed:
        after = view.press(key)
        assert after is not None
        view = after
    return view


def test_other_keys() -> None:
    assert View().press("q") is None
    assert View().press("right") == View(order=Order.MEMORY)
    assert View().press("left") == View(order=Order.NAME)
    assert [view.shown for view in (View(), pressed("s"), pressed("ss"), pressed("sss"))] == [
        Shown.ALL, Shown.PROCESSES, Shown.PODS, Shown.ALL,
    ]  # fmt: skip
    down = View().press("down")
    assert down == View(offset=1)
    assert down.press("up") == down.press("s").press("s").press("s") == View()  # type: ignore[union-attr]
    assert View().press("up") == View()
    assert View(offset=99).within(PODS) == View(offset=5)
    assert View(offset=2).within([]) == View()
    assert (View().ascending, pressed("i").ascending, pressed("a").ascending) == (False, True, True)


def test_every_order_has_a_key_of_its_own() -> None:
    keys = [order.key for order in Order]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {"q", "i", "s"}


def test_columns() -> None:
    header, image, supervisor, front = plain(PROCESS_COLUMNS, View().processes(PROCESSES)).splitlines()
    assert header.split() == ["NAME", "STATE", "PID", "CPU%", "MEMORY", "THREADS", "FILES", "RESTARTS", "UPTIME"]
    assert image.split() == ["image", "ready", "2", "20.0", "13.0", "MB", "6", "-", "3", "10s"]
    assert supervisor.split()[:4] == ["supervisor", "ready", "1", "0.5"]
    assert front.split()[:4] == ["front", "starting", "-", "-"]
    header, _, line, inside, *_ = plain(POD_COLUMNS, View().pods(PODS)).splitlines()
    assert header.split() == [
        "ID", "POD", "CONTAINER", "CPU%", "MEMORY", "LAYER", "PROCS", "RECEIVED", "SENT",
    ]  # fmt: skip
    assert line.split() == ["c" * 13, "c", "-", "3.0", "200", "B", "200", "B", "2", "2.0", "kB/s", "2.0", "kB/s"]
    assert inside.split() == ["z" * 13, "c", "z", "3.0", "200", "B", "200", "B", "-", "-", "-"]
