"""Signal of the CRI (ContainerConfig.stop_signal, ContainerStatus.stop_signal) and the kernel's names, both ways. Pure.

Names are `SIGTERM`, `SIGRTMIN+3`, `SIGRTMAX-2`.
"""

from __future__ import annotations

from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields


def signal_name(value: int) -> str:
    """Return the kernel's name of ContainerConfig.stop_signal; empty for RUNTIME_DEFAULT."""
    descriptor = cri.DESCRIPTOR.enum_types_by_name["Signal"].values_by_number.get(value)
    if descriptor is None:
        fields.refuse("config.stop_signal", f"{value} is unknown")
    name = descriptor.name.removeprefix("SIGNAL_")
    if name == "RUNTIME_DEFAULT":
        return ""
    return name.replace("SIGRTMAXMINUS", "SIGRTMAX-").replace("SIGRTMINPLUS", "SIGRTMIN+")


def signal_number(name: str) -> cri.Signal.ValueType:
    """Return ContainerStatus.stop_signal for a kernel's name, which may lack its SIG; RUNTIME_DEFAULT if unknown."""
    if not name:
        return cri.SIGNAL_RUNTIME_DEFAULT
    full = name if name.startswith("SIG") else f"SIG{name}"
    wire = f"SIGNAL_{full.replace('SIGRTMAX-', 'SIGRTMAXMINUS').replace('SIGRTMIN+', 'SIGRTMINPLUS')}"
    descriptor = cri.DESCRIPTOR.enum_types_by_name["Signal"].values_by_name.get(wire)
    return cri.Signal.Value(wire) if descriptor else cri.SIGNAL_RUNTIME_DEFAULT
