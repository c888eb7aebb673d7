"""Reports what this host and its programs support for containers; the front passes it on to the kubelet.

Run by the runtime worker on its event loop.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from kernel.contracts.runtime import Platform
from kernel.host.aio import Deadline
from services.runtime.context import Context
from services.runtime.namespaces import user_namespace
from services.runtime.security.profiles import Profiles


class PlatformReport:
    """Makes the reports of one worker."""

    def __init__(self, context: Context, profiles: Profiles) -> None:
        self._context = context
        self._profiles = profiles
        self._has_user_namespaces: bool | None = None
        """Whether the host can have them, with any OCI runtime; None before it has been tried."""

    async def read(self, deadline: Deadline) -> Platform:
        """Look at the host. Programs are run again only if they have changed; user namespaces are tried once."""
        config = self._context.config.runtime
        found = [await runtime.fact(deadline) for runtime in self._context.runtimes.values()]
        programs = {
            **{f"handler {name}": handler.path for name, handler in config.handlers.items()},
            "conmon": config.conmon, "pause": config.pause,
        }  # fmt: skip
        if self._has_user_namespaces is None:
            root = self._context.config.paths.root
            self._has_user_namespaces = await user_namespace.supported(root, deadline)
        mapped = self._has_user_namespaces
        return Platform(
            cgroup_driver=self._context.driver,
            handlers=tuple(
                replace(fact, user_namespaces=fact.user_namespaces and mapped) for fact in found if fact is not None
            ),
            selinux=self._profiles.labelled(),
            missing=tuple(f"{name}: {path}" for name, path in programs.items() if not Path(path).is_file()),
        )
