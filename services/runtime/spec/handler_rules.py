"""What a runtime handler's configuration makes of a container's OCI specification. Pure.

Rules kept: of a request's annotations only those go through that the handler allows by prefix, beside Kubernetes' own:
any other could switch the behaviour of an OCI runtime or of a hook. What crisp says itself is never replaced.
"""

from __future__ import annotations

from kernel.config.sections import Handler
from kernel.contracts.runtime import CreateRequest, PodRequest
from services.runtime.spec import limits
from services.runtime.spec.oci_spec import Spec


def check(request: CreateRequest, name: str, handler: Handler) -> None:
    """InvalidInput for a memory limit in which the handler could not even start a container."""
    limits.check_least(request.resources, handler.least_memory, name)


def settle(spec: Spec, pod: PodRequest, request: CreateRequest, handler: Handler) -> Spec:
    """The specification for this handler."""
    return {**spec, "annotations": merge(spec.get("annotations"), pod, request, handler)}


def merge(said: object, pod: PodRequest, request: CreateRequest, handler: Handler) -> dict[str, str]:
    """The handler's defaults, then what it allows of the pod's and the container's, then those of every container."""
    allowed = {
        key: value
        for key, value in {**pod.annotations, **request.annotations}.items()
        if key.startswith(handler.allowed_annotations)
    }
    return {**handler.default_annotations, **allowed, **(said if isinstance(said, dict) else {})}
