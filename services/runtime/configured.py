"""What the node's configuration and its administrator's folders add to a container, read from the host.

Run by the runtime worker, in a throw-away thread. `defaults`, `cdi` and `hooks_d` decide; this reads for them. The
folders are read anew for each container: what is put there holds from the next one on, without a reload.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Mapping
from pathlib import Path

from kernel.config import RuntimeSection
from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition
from services.runtime import admin_files, cdi, defaults, hooks_d, oci_spec
from services.runtime.edits import Edits, Spec

_LOG = logging.getLogger(__name__)


def of_every_container(config: RuntimeSection, pod: PodRequest, *, may_raise: bool) -> oci_spec.Defaults:
    """The defaults of the configuration; `may_raise`: whether hard limits above the daemon's own can be set."""
    return oci_spec.Defaults(
        capabilities=config.default_capabilities,
        pids_limit=config.default_pids_limit,
        env=defaults.env(config.default_env),
        rlimits=tuple(defaults.rlimits(config.default_ulimits, {} if may_raise else _own_hard_limits())),
        umask=defaults.umask(config.umask),
        sysctls=defaults.sysctls(config.default_sysctls, pod),
    )


def mounts(config: RuntimeSection) -> tuple[tuple[str, str], ...]:
    """Target and source of the default mounts and of the time zone; a source that is missing is left out, and told."""
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
    """What the request's CDI devices add."""
    wanted = cdi.asked(request.cdi_devices, request.annotations)
    if not wanted:
        return Edits()
    return cdi.resolve(wanted, admin_files.read(config.cdi_spec_dirs, cdi.SUFFIXES))


def hook_edits(config: RuntimeSection, annotations: Mapping[str, str], spec: Spec, *, has_bind_mounts: bool) -> Edits:
    """The hooks of the folders that are wanted for a container."""
    files = admin_files.read(config.hooks_dirs, (".json",))
    if not files:
        return Edits()
    process = spec["process"]
    assert isinstance(process, dict)
    return hooks_d.edits(
        files, annotations=annotations, command=str(process["args"][0]), has_bind_mounts=has_bind_mounts
    )


def _own_hard_limits() -> dict[str, int]:
    """The daemon's own hard limits by name, where it has one."""
    found = {}
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            hard = resource.getrlimit(getattr(resource, name))[1]
            if hard != resource.RLIM_INFINITY:
                found[name.removeprefix("RLIMIT_").lower()] = hard
    return found
