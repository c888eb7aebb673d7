"""Rates and rows of usage out of two readings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernel.cli.usage.rows import GroupReading, PodReading, ProcessReading, pod_rows, process_rows, rate, total

IMAGE = ProcessReading(
    name="image", state="ready", pid=42, started=1000.0, at=50.0, cpu=3.0, memory=12_000_000, threads=6, open_files=15,
    restarts=1, uptime=60.5,
)  # fmt: skip
POD = GroupReading(
    id="p" * 64, name="web", at=10**18, cpu=10**9, nano_cores=1, memory=1 << 20, writable_layer=4096, processes=3,
    network_at=10**18, received=1000, sent=500,
)  # fmt: skip
CONTAINER = GroupReading(id="c" * 64, name="nginx", at=10**18, cpu=10**9, memory=1 << 19, writable_layer=4096)


@pytest.mark.parametrize(
    ("before", "now", "seconds", "found"),
    [
        (1.0, 3.0, 2.0, 1.0),
        (None, 3.0, 2.0, None),
        (1.0, None, 2.0, None),
        (1.0, 3.0, 0.0, None),
        (1.0, 3.0, -1.0, None),
        (3.0, 1.0, 2.0, None),
        (3.0, 3.0, 2.0, 0.0),
    ],
)
def test_a_rate_needs_two_readings_of_one_counter(
    before: float | None, now: float | None, seconds: float, found: float | None
) -> None:
    assert rate(before, now, seconds) == found


def test_a_process_has_its_share_of_one_cpu() -> None:
    (row,) = process_rows([IMAGE], [replace(IMAGE, at=52.0, cpu=4.0, uptime=62.5)])
    assert row == {
        "name": "image", "state": "ready", "pid": 42, "cpu": 50.0, "memory": 12_000_000, "threads": 6,
        "open_files": 15, "restarts": 1, "uptime": 62.5,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"pid": 43}, {"started": 1001.0}, {"cpu": None}, {"at": 50.0}])
def test_a_process_that_was_not_read_before_has_no_rate(change: dict[str, object]) -> None:
    (row,) = process_rows([IMAGE], [replace(replace(IMAGE, at=52.0, cpu=4.0), **change)])  # type: ignore[arg-type]
    assert row["cpu"] is None


def test_one_that_has_ended_is_not_shown() -> None:
    assert process_rows([IMAGE], []) == []
    assert process_rows([], [IMAGE])[0]["cpu"] is None


def test_pods_and_their_containers_have_rates() -> None:
    before = [PodReading(namespace="default", pod=POD, containers=(CONTAINER,))]
    now = [
        PodReading(
            namespace="default",
            pod=replace(POD, at=POD.at + 2 * 10**9, cpu=2 * 10**9, network_at=POD.at + 2 * 10**9, received=3000),
            containers=(replace(CONTAINER, at=POD.at + 2 * 10**9, cpu=4 * 10**9),),
        )
    ]
    (row,) = pod_rows(before, now)
    assert (row["namespace"], row["name"], row["cpu"]) == ("default", "web", 50.0)
    assert (row["receive_rate"], row["send_rate"], row["received"], row["sent"]) == (1000, 0, 3000, 500)
    assert (row["memory"], row["writable_layer"], row["processes"]) == (1 << 20, 4096, 3)
    (container,) = row["containers"]  # type: ignore[misc]
    assert (container["name"], container["cpu"], container["processes"]) == ("nginx", 150.0, None)
    assert (container["receive_rate"], container["send_rate"]) == (None, None)


def test_the_daemons_rate_stands_in_if_it_has_not_read_again() -> None:
    same = [PodReading(namespace="default", pod=replace(POD, nano_cores=250_000_000))]
    assert pod_rows(same, same)[0]["cpu"] == 25.0
    assert pod_rows([], same)[0]["cpu"] == 25.0
    unknown = [PodReading(namespace="default", pod=replace(POD, nano_cores=None))]
    assert pod_rows(unknown, unknown)[0]["cpu"] is None


def test_totals_leave_out_what_is_not_known() -> None:
    assert total([{"cpu": 1.5}, {"cpu": None}, {}, {"cpu": 2}], "cpu") == 3.5
