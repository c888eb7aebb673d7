"""The runtime worker: pods' namespaces and cgroups, OCI spec, conmon and the OCI runtime, exec, exits. Pure.

- `pods`: namespaces, cgroup and bundle of a sandbox.
- `containers`: from their creation to their removal, with limits and checkpoints.
- `sessions`: commands in a container and connections to it.
- `node`: the host's runtimes, what the worker holds there, what happens to it, and what it uses.

A pod's configuration is sent once (MAKE_POD) and kept by the worker in the pod's bundle; containers name their sandbox.
The root file system and the network namespace lie at the places that `Paths` gives. Field names follow the CRI. Callers
import all names from this package: `runtime.CREATE`, `runtime.CreateRequest`.

Errors: InvalidInput (naming the CRI field), NotFound (the pod or container), FailedPrecondition (its state does not
allow the step), Internal (conmon or the OCI runtime failed; the message is theirs), DeadlineExceeded,
ResourceExhausted.
"""

from __future__ import annotations

from kernel.contracts.definition import Contract
from kernel.contracts.runtime.containers import (
    CREATE,
    DUMP,
    INSPECT,
    MOUNT_LABEL,
    REMOVE,
    REOPEN_LOG,
    SEAL,
    START,
    STOP,
    THAW,
    UPDATE,
    ContainerRequest,
    Created,
    CreateRequest,
    Device,
    DumpRequest,
    Inspected,
    Label,
    LabelRequest,
    Mount,
    Profile,
    Propagation,
    SealRequest,
    Security,
    Started,
    StopRequest,
    Updated,
    UpdateRequest,
)
from kernel.contracts.runtime.node import (
    ASK_HELPER,
    INVENTORY,
    PLATFORM,
    STATS,
    SWEEP,
    WATCH,
    Changed,
    ContainerFact,
    Facts,
    HandlerFact,
    Helped,
    HelperRequest,
    Inventory,
    Platform,
    PodChanged,
    PodFact,
)
from kernel.contracts.runtime.pods import (
    MAKE_POD,
    REMOVE_POD,
    STOP_POD,
    UPDATE_POD,
    NamespaceMode,
    PodMade,
    PodRequest,
    Resources,
    SandboxRequest,
    SelinuxOptions,
    UpdatePodRequest,
)
from kernel.contracts.runtime.sessions import (
    CLOSE_SESSION,
    EXEC,
    OPEN_ATTACH,
    OPEN_EXEC,
    ExecRequest,
    Executed,
    OpenAttachRequest,
    OpenExecRequest,
    SessionRequest,
)

__all__ = [
    "ASK_HELPER", "CLOSE_SESSION", "CONTRACT", "CREATE", "DUMP", "EXEC", "INSPECT", "INVENTORY", "MAKE_POD",
    "MOUNT_LABEL", "OPEN_ATTACH", "OPEN_EXEC", "PLATFORM", "REMOVE", "REMOVE_POD", "REOPEN_LOG", "SEAL", "START",
    "STATS", "STOP", "STOP_POD", "SWEEP", "THAW", "UPDATE", "UPDATE_POD", "WATCH", "Changed", "ContainerFact",
    "ContainerRequest", "CreateRequest", "Created", "Device", "DumpRequest", "ExecRequest", "Executed", "Facts",
    "HandlerFact", "Helped", "HelperRequest", "Inspected", "Inventory", "Label", "LabelRequest", "Mount",
    "NamespaceMode", "OpenAttachRequest", "OpenExecRequest", "Platform", "PodChanged", "PodFact", "PodMade",
    "PodRequest", "Profile", "Propagation", "Resources", "SandboxRequest", "SealRequest", "Security",
    "SelinuxOptions", "SessionRequest", "Started", "StopRequest", "UpdatePodRequest", "UpdateRequest", "Updated",
]  # fmt: skip

CONTRACT = Contract(
    "runtime", MAKE_POD, STOP_POD, REMOVE_POD, CREATE, START, STOP, REMOVE, EXEC, OPEN_EXEC, OPEN_ATTACH,
    CLOSE_SESSION, REOPEN_LOG, UPDATE,
    UPDATE_POD, DUMP, SEAL, THAW, INSPECT, PLATFORM,
    MOUNT_LABEL, WATCH, INVENTORY, SWEEP, STATS, ASK_HELPER,
)  # fmt: skip
