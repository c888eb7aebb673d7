"""Reads the host for the additions to a container by the node's configuration and its administrator's folders.

Run by the runtime worker, in a throw-away thread. It reads for the modules that decide: `defaults`, `cdi`, `hooks_d`,
`resource_class` and `blockio`. The folders are read again for each container: a new file there holds from the
next container on, without a reload.
"""

from __future__ import annotations

import glob
import logging
import os
import resource
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kernel.config.sections import RuntimeSection
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition
from kernel.ids import short
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.node import admin_files, blockio, cdi, defaults, hooks_d, resource_class
from services.runtime.spec import inputs
from services.runtime.spec.additions import Edits, Spec
from services.runtime.spec.limits import Write

_LOG = logging.getLogger(__name__)
RESCTRL = "/sys/fs/resctrl"
"""The mount point of resctrl if the machine has RDT (Documentation/arch/x86/resctrl.rst)."""


def container_defaults(config: RuntimeSection, pod: PodRequest, *, may_raise: bool) -> inputs.Defaults:
    """Return the defaults of the configuration. `may_raise`: whether hard limits above this worker's own can be set."""
    return inputs.Defaults(
        capabilities=config.default_capabilities,
        pids_limit=config.default_pids_limit,
        env=defaults.env(config.default_env),
        rlimits=tuple(defaults.rlimits(config.default_ulimits, {} if may_raise else _own_hard_limits())),
        umask=defaults.umask(config.umask),
        sysctls=defaults.sysctls(config.default_sysctls, pod),
    )


def mounts(config: RuntimeSection) -> tuple[tuple[str, str], ...]:
    """Return target and source of the default mounts and of the time zone. A missing source is logged and left out."""
    found = []
    path = config.default_mounts_file
    if path:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise FailedPrecondition(f"configuration: runtime.default_mounts_file: {path}: {error}") from error
        for target, source in defaults.mounts(text, path):
            if os.path.exists(source):
                found.append((target, os.path.realpath(source)))
            else:
                _LOG.warning("%s: %s does not exist: no container gets it", path, source)
    zone = defaults.time_zone(config.timezone)
    if zone:
        if not os.path.isfile(zone):
            raise FailedPrecondition(f"configuration: runtime.timezone: {zone} does not exist")
        found.append((defaults.LOCALTIME, os.path.realpath(zone)))
    return tuple(found)


def cdi_edits(config: RuntimeSection, request: CreateRequest) -> Edits:
    """Return the additions of the request's CDI devices."""
    wanted = cdi.requested(request.cdi_devices, request.annotations)
    if not wanted:
        return Edits()
    return cdi.resolve(wanted, admin_files.read(config.cdi_spec_dirs, cdi.SUFFIXES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The additions of a container's classes of block I/O and RDT."""

    edits: Edits = field(default_factory=Edits)
    writes: tuple[Write, ...] = ()
    """Weights for the scheduler bfq on cgroup v1, which not every OCI runtime can write."""


def classes(config: RuntimeSection, pod: PodRequest, request: CreateRequest, found: Hierarchies) -> Classes:
    """Return the additions of a container's classes; those without a controller on the host are logged and left out."""
    io, rdt = resource_class.requested("blockio", pod, request), resource_class.requested("rdt", pod, request)
    intel_rdt = resource_class.rdt(rdt, _groups(RESCTRL)) if rdt else {}
    if io is None:
        return Classes(edits=Edits(intel_rdt=intel_rdt))
    parts, numbers = _block_io(config.blockio_config_file, io)
    pod_id = short(pod.sandbox_id)
    if not found.limits_block_io():
        _LOG.warning("pod %s: left out: block I/O class %s: the host has no such controller", pod_id, io.name)
        return Classes(edits=Edits(intel_rdt=intel_rdt))
    weight = found.block_io_weight()
    if not weight and any(part.weight is not None for part in parts):
        _LOG.warning("pod %s: left out: weights of block I/O class %s: the kernel has none", pod_id, io.name)
    late = weight == blockio.BFQ
    block_io = blockio.plan(parts, numbers, weights=bool(weight) and not late)
    return Classes(
        edits=Edits(intel_rdt=intel_rdt, block_io=block_io), writes=blockio.bfq_writes(parts, numbers) if late else ()
    )


def _block_io(
    path: str, wanted: resource_class.Requested
) -> tuple[tuple[blockio.Part, ...], dict[str, list[blockio.Number]]]:
    """Return the parts of a class, and the devices that match each of its patterns. `path`: the file of classes."""
    if not path:
        raise FailedPrecondition(
            f"{wanted.field}: this node has no classes of block I/O",
            hint="name their file in runtime.blockio_config_file, or leave the annotation out",
        )
    file = admin_files.one(path)
    if file.reason:
        raise FailedPrecondition(f"block I/O classes {path}: {file.reason}")
    known = blockio.parse(file.content, path)
    if wanted.name not in known:
        raise resource_class.unknown(wanted, known)
    parts = known[wanted.name]
    numbers = {pattern: block_devices(pattern) for part in parts for pattern in part.devices}
    for pattern, devices in numbers.items():
        if not devices:
            _LOG.warning("block I/O classes %s: %s is no block device of this host", path, pattern)
    return parts, numbers


def block_devices(pattern: str) -> list[blockio.Number]:
    """Return the block devices that match a path with wildcards."""
    found: dict[blockio.Number, None] = {}
    for path in sorted(glob.iglob(pattern)) if pattern.startswith("/") else ():
        with suppress(OSError):  # it was removed meanwhile
            status = os.stat(path)
            if stat.S_ISBLK(status.st_mode):
                found[os.major(status.st_rdev), os.minor(status.st_rdev)] = None
    return list(found)


def _groups(resctrl: str) -> list[str] | None:
    """Return the groups of resctrl; None if it is not mounted."""
    if not os.path.exists(f"{resctrl}/schemata"):
        return None
    return [entry.name for entry in os.scandir(resctrl) if entry.is_dir(follow_symlinks=False)]


def hook_edits(config: RuntimeSection, annotations: Mapping[str, str], spec: Spec, *, has_bind_mounts: bool) -> Edits:
    """Return the hooks of the folders that apply to a container. `spec`: its OCI specification so far."""
    files = admin_files.read(config.hooks_dirs, (".json",))
    if not files:
        return Edits()
    process = spec["process"]
    assert isinstance(process, dict)
    return hooks_d.edits(
        files, annotations=annotations, command=str(process["args"][0]), has_bind_mounts=has_bind_mounts
    )


def _own_hard_limits() -> dict[str, int]:
    """Return this worker's own hard limits by name, those that are not unlimited."""
    found = {}
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            hard = resource.getrlimit(getattr(resource, name))[1]
            if hard != resource.RLIM_INFINITY:
                found[name.removeprefix("RLIMIT_").lower()] = hard
    return found
