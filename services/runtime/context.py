"""The objects that all parts of the runtime worker share: configuration, folders, cgroups, OCI runtimes and others.

Run by the runtime worker, once at its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernel.config.sections import Config
from kernel.host.aio import Tasks
from services.runtime.cgroups import cgroup_path, hierarchies
from services.runtime.cgroups.cgroup_tree import Cgroups
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records.watchers import Watchers


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The surroundings of one worker; made once, at its start."""

    config: Config
    root: Path
    """The worker's own folder (`Paths.runtime_state`)."""
    cgroups: Cgroups
    driver: cgroup_path.Driver
    runtimes: dict[str, OciRuntime]
    """The OCI runtimes by the name of their handler."""
    tasks: Tasks
    watchers: Watchers


def make(config: Config) -> Context:
    """Look at the host and make the worker's own folder. Blocks."""
    root = config.paths.runtime_state
    for folder in (root, root / "pods", root / "containers"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (root, root / "pods"):
        folder.chmod(0o711)  # the root of a user namespace passes through to its own pod's folder
    driver = hierarchies.choose_driver(config.runtime.cgroup_driver)
    return Context(
        config=config,
        root=root,
        cgroups=Cgroups(hierarchies.find()),
        driver=driver,
        runtimes={name: OciRuntime(name, config, systemd=driver == "systemd") for name in config.runtime.handlers},
        tasks=Tasks(),
        watchers=Watchers(),
    )
