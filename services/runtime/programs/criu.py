"""CRIU through the OCI runtime: whether it works here, dumping a container's processes, and what went wrong.

Run by the runtime worker. Rule kept: a dump that has begun is never killed, as CRIU has its own code in the
container's processes meanwhile: it is waited for, also after this worker's death.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path

from kernel.errors import FailedPrecondition, Internal
from kernel.host import pidfd, process
from kernel.host.aio import Deadline
from services.runtime.programs import oci_runtime
from services.runtime.programs.oci_runtime import OciRuntime

_CHECK_SECONDS = 60.0
_LOG_LIMIT = 16 << 20


async def check(what: str, runtime: OciRuntime, deadline: Deadline) -> None:
    """FailedPrecondition, with CRIU's own reason, where this host or this OCI runtime cannot do it."""
    criu = shutil.which("criu", path=process.ENVIRONMENT["PATH"])
    if criu is None:
        raise FailedPrecondition(f"{what} needs criu, which is not installed", hint="apt-get install criu")
    limit = deadline.earlier(_CHECK_SECONDS)
    done = await process.run([criu, "check"], deadline=limit)
    if done.returncode:
        raise FailedPrecondition(f"{what}: {criu} does not work on this host: {first_error(done.stderr)}")
    if (await process.run([runtime.path, "checkpoint", "--help"], deadline=limit)).returncode:
        raise FailedPrecondition(f"{what}: {runtime.path} was built without CRIU", hint="use a handler that has it")


def dump_command(runtime: OciRuntime, container: str, images: Path, work: Path, log: Path) -> list[str]:
    """The OCI runtime's command line; the container goes on when CRIU is done. Pure."""
    return runtime.command(
        "checkpoint", "--leave-running", "--file-locks", "--image-path", str(images), "--work-path", str(work),
        container, log=log,
    )  # fmt: skip


async def dump(argv: list[str], work: Path, log: Path) -> None:
    """Run a dump to its end, whatever becomes of the caller. Internal with CRIU's reason."""
    started = await process.start(argv)
    code = await asyncio.shield(started.wait())
    if code:
        said = oci_runtime.error_text(log).partition("\n")[0]
        why = reason(work / "dump.log")
        raise Internal(": ".join(part for part in (said or process.describe(code), why) if part))


async def finish_dumps(work: Path, seconds: float) -> None:
    """Wait for dumps into a folder that an earlier worker began."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for pid in await asyncio.to_thread(_dumps, work):
                watched = pidfd.Watched.open(pidfd.identify(pid))
                if watched is not None:
                    try:
                        await watched.ended.wait()
                    finally:
                        watched.close()


def _dumps(work: Path) -> list[int]:
    mark, found = b"--work-path\0" + os.fsencode(work) + b"\0", []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):  # ended while the list was read
                if mark in Path(entry.path, "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def reason(log: Path) -> str:
    """The first error in a log of CRIU's; empty where there is no log."""
    try:
        with log.open("rb") as file:
            return first_error(file.read(_LOG_LIMIT))
    except OSError:  # it never came so far
        return ""


def first_error(said: bytes) -> str:
    """The first error among CRIU's words: the others follow from it. Pure."""
    lines = [line for line in said.decode(errors="replace").splitlines() if "Error" in line]
    return lines[0].strip()[:512] if lines else "it does not say why"
