"""NamespaceOption of pods and containers: network, pid, ipc, target_id. Pure.

A container's network and ipc are ignored, as these namespaces are its pod's; a pod's target_id is ignored, as its pid
cannot be TARGET. Its userns_options are in `kernel.front.requests.user_namespaces`.
"""

from __future__ import annotations

from kernel.contracts.runtime import NamespaceMode
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields
from kernel.ids import ContainerId, container_id

_MODES = {
    cri.POD: NamespaceMode.POD,
    cri.CONTAINER: NamespaceMode.CONTAINER,
    cri.NODE: NamespaceMode.NODE,
    cri.TARGET: NamespaceMode.TARGET,
}


def of_pod(field: str, options: cri.NamespaceOption) -> tuple[NamespaceMode, NamespaceMode, NamespaceMode]:
    """Return NamespaceOption.network, pid and ipc of a pod. `field` is the path of the options."""
    mode = NamespaceMode
    return (
        _mode(f"{field}.network", options.network, mode.POD, mode.NODE),
        _mode(f"{field}.pid", options.pid, mode.POD, mode.CONTAINER, mode.NODE),
        _mode(f"{field}.ipc", options.ipc, mode.POD, mode.NODE),
    )


def pid_of_container(
    field: str, options: cri.NamespaceOption, pod: cri.NamespaceOption
) -> tuple[NamespaceMode, ContainerId | None]:
    """Return NamespaceOption.pid of a container, and target_id if the mode is TARGET.

    If the mode is POD and the pod has no PID namespace to share, the pod's own mode is used: NODE or CONTAINER.
    """
    pid = _mode(f"{field}.pid", options.pid, *NamespaceMode)
    if pid is NamespaceMode.TARGET:
        return pid, container_id(options.target_id)
    if pid is NamespaceMode.POD and pod.pid != cri.POD:
        return _MODES[pod.pid], None
    return pid, None


def _mode(field: str, value: int, *allowed: NamespaceMode) -> NamespaceMode:
    mode = next((mine for theirs, mine in _MODES.items() if theirs == value), None)
    if mode not in allowed:
        fields.refuse(field, f"{mode.name if mode else value} is not one of {', '.join(a.name for a in allowed)}")
    return mode
