"""Credentials from the administrator's helper programs: the image worker names them, the runtime worker runs them.

Workers do not call each other, so the front calls both: once for each pull, and only if helpers are configured.
"""

from __future__ import annotations

from kernel.contracts import image, runtime
from kernel.contracts.oci import Auth
from kernel.errors import Corrupt
from kernel.front.context import Front
from kernel.host.aio import Deadline

_MOST = 32
"""The most calls of helpers for one pull: a registry has a handful of mirrors, a node one or two helpers."""


async def credentials(front: Front, resolve: image.ResolveRequest, deadline: Deadline) -> dict[str, Auth]:
    """Return the helpers' credentials for the servers that a pull may ask, by server. Raise Corrupt for too many."""
    if not front.config.image.credential_helper_dir:
        return {}
    wanted = (await front.image.call(image.WANTED, resolve, deadline=deadline)).helpers
    if sum(map(len, wanted.values())) > _MOST:
        raise Corrupt(f"image {resolve.reference}: more than {_MOST} credential helpers are to be asked")
    found: dict[str, Auth] = {}
    for server, helpers in wanted.items():
        for helper in helpers:
            request = runtime.HelperRequest(helper=helper, server=server)
            auth = (await front.runtime.call(runtime.ASK_HELPER, request, deadline=deadline)).auth
            if auth != Auth():
                found[server] = auth
                break
    return found
