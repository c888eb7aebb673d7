from __future__ import annotations

import pytest

from kernel.errors import FailedPrecondition
from services.runtime.node import blockio

FILE = b"""
Classes:
  slow:
    - Weight: 80
    - Devices: ["/dev/sd[a-z]", /dev/vda]
      ThrottleReadBps: 50M
      ThrottleWriteBps: 10Mi
      ThrottleReadIOPS: 10k
      ThrottleWriteIOPS: 1.5k
      Weight: "50"
    - Devices: [/dev/vda]
      ThrottleReadBps: 1G
  fast:
    - Weight: 400
"""


def test_a_class_by_device() -> None:
    classes = blockio.parse(FILE, "f")
    assert blockio.plan(classes["fast"], {}) == {"weight": 400}
    numbers = {"/dev/sd[a-z]": [(8, 0)], "/dev/vda": [(254, 0)]}
    assert blockio.plan(classes["slow"], numbers) == {
        "weight": 80,
        "throttleReadBpsDevice": [
            {"major": 8, "minor": 0, "rate": 50_000_000}, {"major": 254, "minor": 0, "rate": 10**9},
        ],
        "throttleWriteBpsDevice": [{"major": m, "minor": 0, "rate": 10 << 20} for m in (8, 254)],
        "throttleReadIOPSDevice": [{"major": m, "minor": 0, "rate": 10_000} for m in (8, 254)],
        "throttleWriteIOPSDevice": [{"major": m, "minor": 0, "rate": 1500} for m in (8, 254)],
        "weightDevice": [{"major": m, "minor": 0, "weight": 50} for m in (8, 254)],
    }  # fmt: skip


def test_weights_can_be_left_out_and_devices_be_missing() -> None:
    found = blockio.plan(blockio.parse(FILE, "f")["slow"], {"/dev/vda": [(254, 0)]}, weights=False)
    assert not [key for key in found if key.startswith("weight")]
    assert found["throttleReadBpsDevice"] == [{"major": 254, "minor": 0, "rate": 10**9}]
    assert blockio.plan(blockio.parse(FILE, "f")["fast"], {}, weights=False) == {}


def test_weights_of_the_scheduler_bfq() -> None:
    classes = blockio.parse(FILE, "f")
    written = blockio.bfq_writes(classes["slow"], {"/dev/vda": [(254, 0)]})
    assert [(one.file, one.value) for one in written] == [
        ("blkio.bfq.weight", "80"), ("blkio.bfq.weight_device", "254:0 50"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Classes: [\n", "f: "),
        ("Classes: {a: [{Wait: 3}]}", "Wait"),
        ("Classes: {a: [{Weight: 3}]}", "class 'a', part 0: weight 3"),
        ("Classes: {a: [{Weight: 1001}]}", "weight 1001"),
        ("Classes: {a: [{Devices: [/dev/a], ThrottleReadBps: -1}]}", "throttleReadBpsDevice: '-1'"),
        ("Classes: {a: [{Devices: [/dev/a], ThrottleReadBps: 10 M B}]}", "'10 M B'"),
        ("Classes: {a: [{Devices: [/dev/a], ThrottleReadBps: 9E}, {ThrottleReadBps: 1}]}", "part 1: limits"),
        ("Classes: {a: [{Devices: [/dev/a], ThrottleReadBps: 10E}]}", "out of range"),
        ("- a", "object"),
    ],
)
def test_a_file_that_cannot_be_names_the_part(text: str, words: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        blockio.parse(text.encode(), "f")
    assert words in caught.value.message


def test_an_empty_file_has_no_classes() -> None:
    assert blockio.parse(b"", "f") == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("500", 500),
        ("1.5k", 1500),
        ("1.0001", 2),
        ("1500m", 2),
        ("2e3", 2000),
        ("1.5Gi", 3 << 29),
        ("3Ki", 3072),
    ],
)
def test_numbers_are_kubernetes_own_and_rounded_up(text: str, value: int) -> None:
    assert blockio.quantity(text, "x") == value
