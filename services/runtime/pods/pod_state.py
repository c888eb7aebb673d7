"""A pod as the runtime worker holds it in memory, and the report about it.

Run by the runtime worker on its event loop. Rule kept: a change of its record is on disk before it is in memory.
"""

from __future__ import annotations

from pathlib import Path

from kernel.contracts.runtime import NamespaceMode, PodFact, PodRequest
from kernel.host.pidfd import Watched
from kernel.ids import SandboxId
from services.runtime.cgroups import cgroup_path
from services.runtime.namespaces import namespace_pins
from services.runtime.records.bundle import PodBundle, PodRecord


class Pod:
    """A pod that is made or being made."""

    def __init__(self, record: PodRecord, folder: PodBundle) -> None:
        self.record = record
        """The content of pod.json; changed by `change` alone."""
        self.folder = folder
        self.cgroup = cgroup_path.of_name(record.cgroup)
        self.pause: Watched | None = None
        """The pause process; None if it was not there to be watched."""

    @property
    def id(self) -> SandboxId:
        """The id of the sandbox."""
        return self.record.request.sandbox_id

    @property
    def request(self) -> PodRequest:
        """The request that it was made from, with later updates."""
        return self.record.request

    @property
    def pause_pid(self) -> int:
        """The pid of the pause process; 0 if none lives."""
        return self.pause.pid if self.pause and self.pause.alive else 0

    @property
    def pins(self) -> dict[str, Path]:
        """The files at which the pod's own namespaces are pinned, by kind: those that it does not share with the host.

        The network namespace is one of them only if it must belong to the pod's user namespace; else the network
        worker makes it.
        """
        found = {} if self.request.ipc is NamespaceMode.NODE else {"ipc": self.folder.ipc}
        on_host = self.request.network is NamespaceMode.NODE
        found |= {} if on_host else {"uts": self.folder.uts}
        if self.request.user_namespace is not None:
            found |= {"user": self.folder.user}
            found |= {} if on_host else {"net": self.folder.net}
        return found

    def fact(self) -> PodFact:
        """Return the facts that are known about it now."""
        held = self.record.made and all(namespace_pins.pinned(pin) for pin in self.pins.values())
        return PodFact(sandbox_id=self.id, ready=held and (self.record.pause is None or self.pause_pid > 0))

    def change(self, record: PodRecord) -> None:
        """Replace its record, on disk and then in memory. Blocks for one small file."""
        self.folder.record.write(record)
        self.record = record

    def close(self) -> None:
        """Stop watching the pause process."""
        if self.pause is not None:
            self.pause.close()
