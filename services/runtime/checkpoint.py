"""Checkpoints through CRIU: whether this host could make one.

Run by the runtime worker. Archives are not written yet: a host on which CRIU works answers UNIMPLEMENTED, any other
says what is missing, so that the two can be told apart.
"""

from __future__ import annotations

import shutil

from kernel.errors import FailedPrecondition, Unimplemented
from kernel.host import process
from kernel.host.aio import Deadline

_CHECK_SECONDS = 10.0


async def refuse(container: str, deadline: Deadline) -> None:
    """Say why a container is not checkpointed."""
    criu = shutil.which("criu", path=process.ENVIRONMENT["PATH"])
    if criu is None:
        raise FailedPrecondition(f"container {container}: a checkpoint needs criu, which is not installed")
    done = await process.run([criu, "check"], deadline=deadline.earlier(_CHECK_SECONDS))
    if done.returncode:
        raise FailedPrecondition(
            f"container {container}: {criu} does not work on this host: {first_error(done.stderr)}"
        )
    raise Unimplemented("checkpoint archives are not written by crisp yet")


def first_error(said: bytes) -> str:
    """The first error among CRIU's words: the others follow from it. Pure."""
    lines = [line for line in said.decode(errors="replace").splitlines() if "Error" in line]
    return lines[0].strip()[:512] if lines else "it does not say why"
