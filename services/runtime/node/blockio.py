"""Turns classes of block I/O into `linux.resources.blockIO` (config-linux.md, Block IO). Pure.

The classes are in a file of the administrator, in the format of goresctrl, which other runtimes read: `Classes`, each
a list of parts. A part without `Devices` sets the weight for all devices; one with them (paths, with `*` and `[a-z]`
as in a shell) sets weight and limits for those. A later part replaces an earlier one's values for a device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec
import yaml

from kernel.errors import FailedPrecondition
from services.runtime.spec.additions import Json
from services.runtime.spec.limits import Write

BFQ = "blkio.bfq.weight"
"""The file of cgroup v1 with the weight for the scheduler bfq."""
_QUANTITY = re.compile(r"(\d{1,19})(?:\.(\d{1,9}))?(?:[eE](\d{1,2})|(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E))?", re.ASCII)
_UNITS = {
    **{unit: 1000 ** (power + 1) for power, unit in enumerate("kMGTPE")},
    **{f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGTPE")},
}
_LEAST_WEIGHT, _MOST_WEIGHT = 10, 1000
"""The range that the OCI specification gives a weight."""
Number = tuple[int, int]
"""A device's major and minor number."""


class _FilePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """A part in the form that it has in the file."""

    devices: list[str] = []
    weight: str | int | float | None = None
    throttle_read_bps: str | int | float | None = None
    throttle_write_bps: str | int | float | None = None
    throttle_read_iops: str | int | float | None = msgspec.field(name="ThrottleReadIOPS", default=None)
    throttle_write_iops: str | int | float | None = msgspec.field(name="ThrottleWriteIOPS", default=None)


class _ClassesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """The file."""

    classes: dict[str, list[_FilePart]] = {}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a class for some devices, or for all if it names none."""

    devices: tuple[str, ...] = ()
    """Patterns of paths."""
    weight: int | None = None
    limits: dict[str, int] = {}
    """Bytes or operations per second, by the OCI field: `throttleReadBpsDevice` and so on."""


def parse(content: bytes, path: str) -> dict[str, tuple[Part, ...]]:
    """Return the classes in a file, by name; FailedPrecondition names a part that is wrong."""
    try:
        document = msgspec.convert(yaml.safe_load(content) or {}, _ClassesFile)
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"block I/O classes {path}: {error}") from error
    return {
        name: tuple(_part(written, f"block I/O classes {path}: class {name!r}, part {index}")
                    for index, written in enumerate(parts))
        for name, parts in document.classes.items()
    }  # fmt: skip


def plan(parts: Iterable[Part], numbers: Mapping[str, Iterable[Number]], *, weights: bool = True) -> Json:
    """Return `linux.resources.blockIO` for a class.

    `numbers`: the devices that match each of its patterns. `weights`: False leaves weights out, for a host that has
    none.
    """
    found: Json = {}
    by_device: dict[str, dict[Number, int]] = {}
    for part in parts:
        if part.weight is not None and not part.devices:
            found["weight"] = part.weight
        values = {**part.limits, **({} if part.weight is None else {"weightDevice": part.weight})}
        for device in dict.fromkeys(number for pattern in part.devices for number in numbers.get(pattern, ())):
            for key, value in values.items():
                by_device.setdefault(key, {})[device] = value
    for key, devices in by_device.items():
        unit = "weight" if key == "weightDevice" else "rate"
        found[key] = [{"major": major, "minor": minor, unit: value} for (major, minor), value in devices.items()]
    return found if weights else {key: value for key, value in found.items() if not key.startswith("weight")}


def bfq_writes(parts: Iterable[Part], numbers: Mapping[str, Iterable[Number]]) -> tuple[Write, ...]:
    """Return the weights of a class as files of cgroup v1 for the scheduler bfq."""
    found = plan(parts, numbers)
    lines = [(BFQ, str(found["weight"]))] if "weight" in found else []
    by_device = found.get("weightDevice", [])
    assert isinstance(by_device, list)
    lines += [(f"{BFQ}_device", f"{one['major']}:{one['minor']} {one['weight']}") for one in by_device]
    return tuple(Write(controller="blkio", file=file, value=value) for file, value in lines)


def _part(written: _FilePart, what: str) -> Part:
    given = {
        "throttleReadBpsDevice": written.throttle_read_bps,
        "throttleWriteBpsDevice": written.throttle_write_bps,
        "throttleReadIOPSDevice": written.throttle_read_iops,
        "throttleWriteIOPSDevice": written.throttle_write_iops,
    }
    limits = {key: quantity(value, f"{what}: {key}") for key, value in given.items() if value not in (None, "")}
    weight = None if written.weight in (None, "") else quantity(written.weight, f"{what}: weight")
    if weight is not None and not _LEAST_WEIGHT <= weight <= _MOST_WEIGHT:
        raise FailedPrecondition(f"{what}: weight {weight} is not between {_LEAST_WEIGHT} and {_MOST_WEIGHT}")
    if limits and not written.devices:
        raise FailedPrecondition(f"{what}: limits are for devices, and it names none")
    return Part(devices=tuple(written.devices), weight=weight, limits=limits)


def quantity(text: str | float | None, what: str) -> int:
    """Return a quantity as Kubernetes writes it (`50M`, `1.5Gi`, `2e3`) as a whole number, rounded up."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if not match:
        raise FailedPrecondition(f"{what}: {str(text)[:40]!r} is not a number such as 500 or 50M")
    whole, part, exponent, unit = match.groups(default="")
    above = int(whole + part) * 10 ** int(exponent or 0) * _UNITS.get(unit, 1)
    value: int = -(-above // (10 ** len(part) * (1000 if unit == "m" else 1)))
    if value >= 1 << 63:
        raise FailedPrecondition(f"{what}: {str(text)[:40]!r} is out of range")
    return value
