"""Reading the configuration again: the effects of a change on the processes. Pure.

A changed section takes effect when its worker is restarted, which clients do not notice. The front is restarted with
every change, because it shows the configuration and checks requests against it. A key cannot change under a running
daemon if it decides where files are, who owns them, or how running pods and containers were made.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kernel.config.sections import Config
from kernel.contracts.records import Sandbox
from kernel.errors import FailedPrecondition
from kernel.ids import short

FIXED = (
    "root", "run", "socket", "user", "image.user", "stream.user", "runtime.cgroup_driver", "storage.image_store",
)  # fmt: skip
"""Keys that are read at the start of the daemon only."""
SECTIONS = ("runtime", "network", "storage", "image", "stream")
"""Sections that have the name of the worker that reads them, in the order of the workers' start."""
READ_BY = {
    "image.credential_helper_dir": "runtime",
    "image.signature_policy": "storage",
    "image.signature_policy_dir": "storage",
}
"""Keys that another worker reads as well."""
EVERYBODY = "log_level"


def changed(before: Config, after: Config) -> tuple[str, ...]:
    """Return the keys that differ, as `section.key`."""
    old, new = _flat(before), _flat(after)
    return tuple(key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key))


def check(before: Config, after: Config, sandboxes: Iterable[Sandbox]) -> tuple[str, ...]:
    """Return the keys that change; raises FailedPrecondition if one of them may not."""
    keys = changed(before, after)
    for key in keys:
        if key in FIXED:
            raise FailedPrecondition(
                f"configuration key {key!r} cannot change while the daemon runs",
                hint="restart the daemon; containers do not notice",
            )
    for sandbox in sandboxes:
        name = sandbox.handler or before.runtime.default_handler
        old, new = before.runtime.handlers.get(name), after.runtime.handlers.get(name)
        if new is None or (old is not None and old.root != new.root):
            what = "taken away" if new is None else "moved to another root"
            raise FailedPrecondition(
                f"runtime handler {name!r} cannot be {what}: pod sandbox {short(sandbox.id)} uses it"
            )
    return keys


def to_restart(keys: Iterable[str]) -> tuple[str, ...]:
    """Return the workers that must be restarted, the front last."""
    found = tuple(keys)
    if not found:
        return ()
    touched = (
        SECTIONS
        if EVERYBODY in found
        else tuple(
            name for name in SECTIONS if any(key.startswith(f"{name}.") or READ_BY.get(key) == name for key in found)
        )
    )
    return (*touched, "front")


def _flat(config: Config) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in msgspec.to_builtins(config).items():
        if isinstance(value, dict):
            found.update({f"{key}.{inner}": one for inner, one in value.items()})
        else:
            found[key] = value
    return found
