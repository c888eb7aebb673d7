"""Changes in a container's OCI specification by its runtime handler's configuration. Pure.

Rules kept: beside Kubernetes' own annotations only those get through whose prefix the handler allows, as any other
could change what an OCI runtime or a hook does. An annotation that crisp sets itself is never replaced.
"""

from __future__ import annotations

from kernel.config.sections import Handler
from kernel.contracts.runtime import CreateRequest, PodRequest
from services.runtime.spec import limits
from services.runtime.spec.inputs import Spec


def check(request: CreateRequest, name: str, handler: Handler) -> None:
    """Raise InvalidInput for a memory limit with which this handler could start no container."""
    limits.check_least(request.resources, handler.least_memory, name)


def apply(spec: Spec, pod: PodRequest, request: CreateRequest, handler: Handler) -> Spec:
    """Return the specification for this handler: its `annotations` are completed."""
    return {**spec, "annotations": merge(spec.get("annotations"), pod, request, handler)}


def merge(annotations: object, pod: PodRequest, request: CreateRequest, handler: Handler) -> dict[str, str]:
    """Return `annotations`: those of the specification, over the request's allowed ones, over the handler's defaults.

    Those of the request are PodSandboxConfig.annotations and ContainerConfig.annotations.
    """
    allowed = {
        key: value
        for key, value in {**pod.annotations, **request.annotations}.items()
        if key.startswith(handler.allowed_annotations)
    }
    return {**handler.default_annotations, **allowed, **(annotations if isinstance(annotations, dict) else {})}
