"""Chooses a container's AppArmor profile (linux.security_context.apparmor), and loads the default one into the kernel.

Run by the runtime worker. Rules kept: a kernel without AppArmor is an error only if the request names a profile; a
profile of the node must be loaded already, as crisp loads only its own.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from kernel.contracts.runtime import Profile
from kernel.errors import FailedPrecondition, Internal
from kernel.host import process
from kernel.host.aio import Deadline

_LOG = logging.getLogger(__name__)
OWN = "crisp-default"
RULES = f"""
profile {OWN} flags=(attach_disconnected,mediate_deleted) {{
  capability,
  network,
  file,
  umount,
  pivot_root,
  # from the daemon's processes, and among the container's own
  signal (receive) peer=unconfined,
  signal (receive) peer={{,/usr/bin/,/usr/sbin/}}{{runc,crun,conmon}},
  signal (send, receive) peer={OWN},
  ptrace (trace, read, tracedby, readby) peer={OWN},
  unix,

  deny mount,
  # the kernel's memory and settings, except those that each IPC namespace has for itself: msg*, sem, shm*
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} rwklx,
  deny /proc/sys/{{abi,crypto,debug,dev,sunrpc,user,vm}}/** wkl,
  deny /proc/sys/fs/[^m]** wkl,
  deny /proc/sys/kernel/[^ms]** wkl,
  deny /proc/sys/kernel/m[^s]** wkl,
  deny /proc/sys/kernel/s[^eh]** wkl,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/{{block,bus,class,dev,devices,hypervisor,kernel,module,power}}/** wkl,
  deny /sys/fs/[^c]** wkl,
}}
"""
"""The default profile: everything is allowed but mounts and the kernel's settings."""


class AppArmor:
    """AppArmor of this kernel, which may have none."""

    def __init__(
        self,
        default: str,
        module: Path = Path("/sys/module/apparmor/parameters/enabled"),
        listing: Path = Path("/sys/kernel/security/apparmor/profiles"),
        parser: str = "apparmor_parser",
    ) -> None:
        self._default = default
        self._module = module
        self._listing = listing
        self._parser = parser
        self._lock = asyncio.Lock()
        self._warned = False

    def enabled(self) -> bool:
        """Return whether this kernel has AppArmor switched on."""
        try:
            return self._module.read_text().startswith("Y")
        except OSError:  # the module is not there
            return False

    def loaded(self) -> frozenset[str]:
        """Return the names of the profiles that are loaded."""
        try:
            lines = self._listing.read_text().splitlines()
        except OSError:  # securityfs is not mounted
            return frozenset()
        return frozenset(line.rpartition(" (")[0] for line in lines)

    async def choose(self, requested: Profile | None, *, privileged: bool, deadline: Deadline) -> str:
        """Return the name of a container's profile; empty for none. FailedPrecondition names the request's field."""
        if requested is not None and requested.kind == "localhost":
            if not self.enabled():
                raise FailedPrecondition(
                    f"{requested.field}: profile {requested.ref[:128]!r}: this kernel has no AppArmor"
                )
            if requested.ref not in await asyncio.to_thread(self.loaded):
                raise FailedPrecondition(
                    f"{requested.field}: profile {requested.ref[:128]!r} is not loaded",
                    hint="apparmor_parser FILE loads it",
                )
            return requested.ref
        if privileged or (requested is not None and requested.kind == "unconfined") or not self.enabled():
            return ""
        return await self._ready_default(deadline)

    async def _ready_default(self, deadline: Deadline) -> str:
        """Return the default profile's name, once it is loaded; empty if the built-in one cannot be loaded."""
        async with self._lock:
            if self._default in await asyncio.to_thread(self.loaded):
                return self._default
            if self._default != OWN:
                raise FailedPrecondition(f"runtime.apparmor_profile: {self._default!r} is not loaded")
            try:
                if shutil.which(self._parser, path=process.ENVIRONMENT["PATH"]) is None:
                    raise Internal(f"{self._parser} is not installed")
                done = await process.run(
                    [self._parser, "--skip-cache", "--replace"], deadline=deadline, input=RULES.encode()
                )
                done.check()
            except Internal as error:
                if not self._warned:
                    _LOG.warning("containers run without AppArmor: profile %s cannot be loaded: %s", OWN, error)
                    self._warned = True
                return ""
        return self._default
