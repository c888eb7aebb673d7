"""Pulls an image by its reference: resolve, verify the chain of digests, judge its signatures, make it.

The front names the image as the caller did, whatever the image worker reports.
"""

from __future__ import annotations

from msgspec import structs

from kernel.contracts import image
from kernel.contracts.oci import Auth
from kernel.errors import Cancelled, Corrupt, CrispError, DeadlineExceeded, Internal, NotFound, ResourceExhausted
from kernel.formats.reference import Reference
from kernel.front.context import Front
from kernel.front.documents import manifest_chain
from kernel.front.images import admission, credential_helpers, make_image
from kernel.front.images.make_image import ImagePlan
from kernel.front.memory.image_memory import PullProgress
from kernel.front.requests.image_spec import PullPlan
from kernel.host.aio import Deadline
from kernel.ids import ImageId, digest

PULL_SECONDS = 7200.0
"""Seconds that a pull which goes on without its caller may take; a download that stalls is given up long before."""


async def first(front: Front, plan: PullPlan, progress: PullProgress, deadline: Deadline) -> ImageId:
    """Pull the first available image of those that a name may stand for; return its id.

    If none can be pulled, raise the first error that is more than NotFound, with the messages of all.
    """
    failures: list[CrispError] = []
    for reference, auth in plan.candidates:
        try:
            return await pull(front, reference, auth, plan.namespace, progress, deadline)
        except (ResourceExhausted, DeadlineExceeded, Cancelled, Internal):
            raise  # the fault of this node, not of the registry
        except CrispError as error:
            failures.append(error)
    telling = next((error for error in failures if not isinstance(error, NotFound)), failures[0])
    if len(failures) == 1:
        raise telling
    others = "; ".join(error.message for error in failures if error is not telling)
    raise type(telling)(f"{telling.message}; {others}", hint=telling.hint)


async def pull(
    front: Front, reference: Reference, auth: Auth | None, namespace: str, progress: PullProgress, deadline: Deadline
) -> ImageId:
    """Pull an image and return its id; layers that are on the host already are not fetched."""
    resolve = image.ResolveRequest(reference=str(reference), auth=auth, namespace=namespace)
    helped = await credential_helpers.credentials(front, resolve, deadline)
    resolve = structs.replace(resolve, helped=helped)
    resolved = await front.image.call(image.RESOLVE, resolve, deadline=deadline)
    named = digest(resolved.digest)
    manifest = digest(resolved.manifest_digest)
    try:
        manifest_chain.verify(reference.digest, resolved)
    except Corrupt as error:
        raise Corrupt(f"image {reference}: {error.message}") from error
    parsed, layers = make_image.checked(str(reference), resolved.config, resolved.layers)
    digests = tuple(dict.fromkeys((named, manifest)))
    signatures = await admission.at_pull(front, reference, digests, resolve, deadline)
    return await make_image.make(
        front,
        ImagePlan(
            parsed=parsed,
            layers=layers,
            source=str(reference),
            reference=str(reference),
            auth=auth,
            namespace=namespace,
            helped=helped,
            tags=(reference.tagged,) if reference.tagged else (),
            digests=tuple(f"{reference.name}@{value}" for value in digests),
            manifest_digests=(manifest,),
            documents=(resolved.config, *resolved.documents),
            signatures=signatures,
            progress=progress,
        ),
        deadline,
    )
