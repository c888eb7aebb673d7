"""CRIU through the OCI runtime: whether it works here, dumps of a container's processes, and reasons of failures.

Run by the runtime worker. Rule kept: a dump that has begun is never killed, because CRIU's own code is in the
container's processes until it is done: it is waited for, and a worker that starts later waits for it too.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

from kernel.errors import FailedPrecondition, Internal
from kernel.host import pidfd, process
from kernel.host.aio import Deadline
from services.runtime.programs import command_lines, oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime

_CHECK_SECONDS = 60.0
_LOG_LIMIT = 16 << 20
"""Bytes of a log that are read."""


async def check(what: str, runtime: OciRuntime, deadline: Deadline) -> None:
    """Raise FailedPrecondition, with CRIU's own reason, if this host or this OCI runtime cannot use CRIU.

    `what` begins the message: the container and the step.
    """
    criu = shutil.which("criu", path=process.ENVIRONMENT["PATH"])
    if criu is None:
        raise FailedPrecondition(f"{what} needs criu, which is not installed", hint="apt-get install criu")
    limit = deadline.earlier(_CHECK_SECONDS)
    done = await process.run([criu, "check"], deadline=limit)
    if done.returncode:
        raise FailedPrecondition(f"{what}: {criu} does not work on this host: {first_error(done.stderr)}")
    if (await process.run([runtime.path, "checkpoint", "--help"], deadline=limit)).returncode:
        raise FailedPrecondition(f"{what}: {runtime.path} was built without CRIU", hint="use a handler that has it")


def dump_command(runtime: OciRuntime, container_id: str, images: Path, work: Path, log: Path) -> list[str]:
    """Return the OCI runtime's command line for a dump, after which the container goes on. Pure.

    `images`: the folder for CRIU's files; `work`: that for its log; `log`: the OCI runtime's log.
    """
    return runtime.command(
        "checkpoint", "--leave-running", "--file-locks", "--image-path", str(images), "--work-path", str(work),
        container_id, log=log,
    )  # fmt: skip


async def dump(argv: list[str], work: Path, log: Path) -> None:
    """Run a dump to its end, even if the caller is cancelled. Internal with CRIU's reason if it fails."""
    started = await process.start(argv)
    code = await asyncio.shield(started.wait())
    if code:
        error = oci_runtime.error_text(log).partition("\n")[0]
        parts = (error or process.describe(code), reason(work / "dump.log"))
        raise Internal(": ".join(part for part in parts if part))


async def finish_dumps(work: Path, seconds: float) -> None:
    """Wait for dumps into a folder that an earlier worker began, for so many seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for pid in await asyncio.to_thread(command_lines.pids_with, "--work-path", work):
                watched = pidfd.Watched.open(pidfd.identify(pid))
                if watched is not None:
                    try:
                        await watched.ended.wait()
                    finally:
                        watched.close()


def reason(log: Path) -> str:
    """Return the first error in one of CRIU's logs; empty if there is no log."""
    try:
        with log.open("rb") as file:
            return first_error(file.read(_LOG_LIMIT))
    except OSError:  # CRIU did not get as far as to write one
        return ""


def first_error(output: bytes) -> str:
    """Return the first error in CRIU's output; the others follow from it. Pure."""
    lines = [line for line in output.decode(errors="replace").splitlines() if "Error" in line]
    return lines[0].strip()[:512] if lines else "without a reason"
