"""What all parts of the runtime worker work with: configuration, folders, cgroups, OCI runtimes, tasks, watchers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernel.config.sections import Config
from kernel.host.aio import Tasks
from services.runtime.cgroups import cgroup_path, hierarchies
from services.runtime.cgroups.hierarchies import Cgroups
from services.runtime.exits.watching import Watchers
from services.runtime.programs.oci_runtime import OciRuntime


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Made once at the worker's start."""

    config: Config
    root: Path
    cgroups: Cgroups
    driver: cgroup_path.Driver
    runtimes: dict[str, OciRuntime]
    tasks: Tasks
    watchers: Watchers


def read(config: Config) -> Setting:
    """Look at the host and make the worker's own folder."""
    root = config.paths.runtime_state
    for folder in (root, root / "pods", root / "containers"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (root, root / "pods"):
        folder.chmod(0o711)  # the root of a user namespace passes through to its own pod's folder
    driver = hierarchies.driver(config.runtime.cgroup_driver)
    return Setting(
        config=config,
        root=root,
        cgroups=Cgroups(hierarchies.hierarchies()),
        driver=driver,
        runtimes={name: OciRuntime(name, config, systemd=driver == "systemd") for name in config.runtime.handlers},
        tasks=Tasks(),
        watchers=Watchers(),
    )
