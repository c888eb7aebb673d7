"""The keys by which a repeated RunPodSandbox or CreateContainer is recognised. Pure.

The kubelet repeats a call with the same name and attempt until it succeeds; two calls with equal keys mean the same
object, whatever else differs in their requests.
"""

from __future__ import annotations

from kernel.contracts.records import Container, Sandbox
from kernel.ids import SandboxId

SandboxKey = tuple[str, str, str, int]
"""Name, namespace, uid and attempt of PodSandboxMetadata."""
ContainerKey = tuple[SandboxId, str, int]
"""Id of the sandbox, and name and attempt of ContainerMetadata."""


def of_sandbox(record: Sandbox) -> SandboxKey:
    """Return the key of the requests that made this sandbox."""
    return (record.name, record.namespace, record.uid, record.attempt)


def of_container(record: Container) -> ContainerKey:
    """Return the key of the requests that made this container."""
    return (record.sandbox_id, record.name, record.attempt)
