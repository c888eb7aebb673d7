"""The annotations of a container's OCI specification (config.md, Annotations). Pure.

Rule kept: of ContainerConfig.annotations only Kubernetes' own get through here, and none that begins as those of an
OCI runtime do: it could change what an OCI runtime or a hook does. What a runtime handler allows beside these is
added by `handler_rules`.
"""

from __future__ import annotations

import msgspec

from kernel.contracts.runtime import CreateRequest, PodRequest, Resources


def plan(pod: PodRequest, request: CreateRequest) -> dict[str, str]:
    """Return `annotations`: Kubernetes' own of the request, and those that hooks and OCI runtimes look for."""
    passed = {
        key: value
        for key, value in request.annotations.items()
        if key.startswith("io.kubernetes.") and not key.startswith(("io.kubernetes.cri-o.", "io.kubernetes.cri."))
    }
    return {
        **passed,
        "io.container.manager": "crisp",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": request.name,
        "io.kubernetes.cri.image-name": request.image_name,
        "io.kubernetes.cri.sandbox-id": pod.sandbox_id,
        "io.kubernetes.cri.sandbox-name": pod.name,
        "io.kubernetes.cri.sandbox-namespace": pod.namespace,
        "io.kubernetes.cri.sandbox-uid": pod.uid,
        **_pod_size(pod),
    }


def _pod_size(pod: PodRequest) -> dict[str, str]:
    """Return linux.resources and linux.overhead of the pod, under the names that containerd and CRI-O give them.

    An OCI runtime that gives each pod a virtual machine of its own takes the machine's size from these.
    """
    sizes = {}
    limits, nothing = pod.resources, Resources()
    if limits != nothing:
        sizes = {
            "io.kubernetes.cri.sandbox-cpu-period": str(limits.cpu_period),
            "io.kubernetes.cri.sandbox-cpu-quota": str(limits.cpu_quota),
            "io.kubernetes.cri.sandbox-cpu-shares": str(limits.cpu_shares),
            "io.kubernetes.cri.sandbox-memory": str(limits.memory_limit_in_bytes),
        }
    for name, given in (("resources", pod.resources), ("overhead", pod.overhead)):
        if given != nothing:
            values = {key: value for key, value in msgspec.to_builtins(given).items() if value}
            if pages := values.pop("hugepage_limits", None):
                values["hugepage_limits"] = [{"page_size": size, "limit": limit} for size, limit in pages.items()]
            sizes[f"pod-linux-{name}.crio.io"] = msgspec.json.encode(values).decode()
    return sizes
