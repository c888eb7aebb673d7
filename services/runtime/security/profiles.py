"""Finds what confines a container: reads profiles and policies, and has the default ones loaded.

Run by the runtime worker, before a container is planned. Host files are read in a throw-away thread. A request
that the worker cannot fulfil (a capability that it lacks itself, a negative OOM score) is left out and logged, once per
kind.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from kernel.contracts.runtime import CreateRequest, PodRequest, SelinuxOptions
from kernel.host import thread
from kernel.host.aio import Deadline
from services.runtime.context import Context
from services.runtime.security import seccomp_files, selinux
from services.runtime.security.apparmor import AppArmor
from services.runtime.security.seccomp_files import SeccompFiles
from services.runtime.security.selinux import Selinux
from services.runtime.spec import limits, resources
from services.runtime.spec.inputs import Host
from services.runtime.spec.security_context import capabilities, confinement, seccomp_rules
from services.runtime.spec.security_context.confinement import Confinement
from services.runtime.spec.security_context.seccomp_profile import SeccompProfile

_LOG = logging.getLogger(__name__)


class Profiles:
    """The profiles and labels of this host."""

    def __init__(self, context: Context) -> None:
        self._config = context.config.runtime
        self._files = SeccompFiles()
        self._apparmor = AppArmor(self._config.apparmor_profile)
        self._selinux = Selinux(context.root / "pods")
        system = os.uname()
        self._machine = seccomp_rules.machine(system.machine, system.release)
        self._logged: set[str] = set()

    async def find(self, pod: PodRequest, request: CreateRequest, deadline: Deadline) -> Confinement:
        """Return a container's confinement, by linux.security_context; errors name the field of the request."""
        security = request.security
        what = f"container {request.container_id}: profiles"
        source = confinement.seccomp_source(security.seccomp, privileged=security.privileged, config=self._config)
        profile = None
        if source != "none":
            profile = await thread.run(lambda: self._seccomp(source, pod, request), deadline, what)
        apparmor = await self._apparmor.choose(security.apparmor, privileged=security.privileged, deadline=deadline)
        process_label, mount_label = await self._labels(pod, security.selinux, privileged=security.privileged)
        return Confinement(
            seccomp=profile, machine=self._machine, apparmor=apparmor, process_label=process_label,
            mount_label=mount_label,
        )  # fmt: skip

    def labelled(self) -> bool:
        """Return whether containers get SELinux labels at all."""
        return self._config.selinux == "auto" and self._selinux.enabled()

    async def mount_label(self, pod: PodRequest, options: SelinuxOptions | None, *, privileged: bool) -> str:
        """Return the label of a container's files; empty for none. `options`: the container's own; None: the pod's."""
        return (await self._labels(pod, options, privileged=privileged))[1]

    async def _labels(self, pod: PodRequest, options: SelinuxOptions | None, *, privileged: bool) -> tuple[str, str]:
        if self._config.selinux == "ignore":
            return "", ""
        requested = options or pod.selinux
        if not self._selinux.enabled():  # reads no file, and so needs no thread
            return self._selinux.labels(pod.sandbox_id, requested, privileged=privileged)
        return await asyncio.to_thread(self._selinux.labels, pod.sandbox_id, requested, privileged=privileged)

    async def relabel(
        self, pod: PodRequest, files: Iterable[Path], request: CreateRequest, found: Confinement, deadline: Deadline
    ) -> None:
        """Give mounts with selinux_relabel the container's label, and `files` the pod's: its containers share them."""
        if not found.mount_label:
            return
        shared = await self.mount_label(pod, None, privileged=False)
        for path in files:
            if path.exists():
                await selinux.label_tree(f"pod {pod.sandbox_id}", str(path), shared, deadline)
        for index, mount in enumerate(request.mounts):
            if mount.selinux_relabel and mount.host_path:
                await selinux.relabel(index, mount.host_path, found.mount_label, deadline)

    def log_missing(self, request: CreateRequest, host: Host) -> None:
        """Log parts of the request that this worker or this host cannot fulfil; each kind once."""
        security, score = request.security, request.resources.oom_score_adj
        lacking = capabilities.lacking(
            security.add_capabilities, privileged=security.privileged, bounding=host.bounding
        )
        if lacking:
            self._log_once(f"containers run without {', '.join(lacking)}: the daemon itself has not got it")
        if score < host.oom_score_adj and not host.may_lower_oom_score:
            self._log_once(
                f"containers' oom_score_adj is {host.oom_score_adj} at the least: CAP_SYS_RESOURCE is missing"
            )
        for note in limits.left_out(request.resources, resources.support(host)):
            self._log_once(f"containers run without what they request of {note}")

    def _log_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            _LOG.warning("%s", text)

    def _seccomp(
        self, source: confinement.SeccompSource, pod: PodRequest, request: CreateRequest
    ) -> SeccompProfile | None:
        config, requested = self._config, request.security.seccomp
        match source:
            case "default":
                handler = config.handlers.get(pod.handler or config.default_handler)
                own = handler.seccomp_profile if handler is not None else ""
                return self._files.default(own or config.seccomp_profile)
            case "privileged":
                return self._files.get(Path(config.privileged_seccomp_profile))
            case "localhost" if requested is not None:
                return seccomp_files.localhost(config.seccomp_root, requested.ref, requested.field)
            case _:
                return None
