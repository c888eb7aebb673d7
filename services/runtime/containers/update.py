"""Limits changed on a running container or pod: straight into the files of its cgroup.

Run by the runtime worker. Rules kept: all of an update holds or none of it; what the kernel refuses because of the
order (a limit above one that is about to grow) is written again after the rest. Where systemd manages the cgroup it
is told by the OCI runtime too, or it would put back the old values some day.
"""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from pathlib import Path

import msgspec

from kernel.contracts.runtime import Resources
from kernel.errors import FailedPrecondition, Internal, InvalidInput
from kernel.host import thread
from kernel.host.aio import Deadline
from services.runtime.cgroups.hierarchies import Cgroups
from services.runtime.context import Setting
from services.runtime.exits.watching import Container
from services.runtime.node import host_support
from services.runtime.programs.oci_runtime import OciRuntime
from services.runtime.records import bundle
from services.runtime.records.bundle import ContainerBundle
from services.runtime.spec import limits, oci_spec
from services.runtime.spec.limits import Support, Write

_LOG = logging.getLogger(__name__)


async def container(
    setting: Setting, changed: Container, runtime: OciRuntime, asked: Resources, deadline: Deadline
) -> Resources:
    """Give a created or running container new limits; those that hold afterwards. Once more changes nothing."""
    what = f"container {changed.id}"
    if changed.exited.is_set():
        raise FailedPrecondition(f"{what} has exited: it has no resources to update")
    limits.check_least(asked, runtime.settings.least_memory, runtime.name)
    allowed = host_support.read(setting.cgroups.hierarchies)
    limits.check_sets(asked, allowed.cpus, allowed.mems)
    known = oci_spec.support(allowed)

    def work() -> Resources:
        made_from = changed.bundle.request.read()
        if made_from is None:
            raise Internal(f"{what}: its request does not read back")
        held = limits.merge(made_from.resources, asked)
        apply(setting.cgroups, changed.state.limits_cgroup, asked, held, known, what)
        if asked.oom_score_adj:
            score = (
                asked.oom_score_adj if allowed.may_lower_oom_score else max(asked.oom_score_adj, allowed.oom_score_adj)
            )
            adjust_oom_score(setting.cgroups, changed.state.cgroup, score, what)
        keep(changed.bundle, held, known)
        return held

    held = await thread.run(work, deadline, f"{what}: update")
    if runtime.systemd:
        wanted = msgspec.json.encode(limits.spec(held, known))
        await runtime.update(changed.id, wanted, changed.bundle.path / "update.json", deadline)
    return held


def pod(cgroups: Cgroups, path: str, asked: Resources, what: str) -> None:
    """Give a pod's cgroup, which is ours, the limits of all that is in it."""
    found = host_support.read(cgroups.hierarchies)
    limits.check_sets(asked, found.cpus, found.mems)
    apply(cgroups, path, asked, asked, oci_spec.support(found), what)


def apply(cgroups: Cgroups, path: str, asked: Resources, held: Resources, known: Support, what: str) -> None:
    """Bring a cgroup to `asked`, after which `held` holds."""
    for note in limits.left_out(asked, known):
        _LOG.warning("%s: left out: %s", what, note)
    planned = limits.writes(asked, held, known)
    if asked.memory_limit_in_bytes and (used := memory_use(cgroups, path)) is not None:
        limits.check_use(asked, used)
    write(cgroups, path, planned, what)


def memory_use(cgroups: Cgroups, path: str) -> int | None:
    """Bytes that a cgroup uses now; None where nobody counts."""
    name = "memory.current" if cgroups.hierarchies.only_v2 else "memory.usage_in_bytes"
    with suppress(OSError):  # no controller, or no cgroup: the write says so
        return int(_folder(cgroups, "memory", path).joinpath(name).read_text())
    return None


def adjust_oom_score(cgroups: Cgroups, path: str, score: int, what: str) -> None:
    """Give every process of a cgroup the score; those that it starts inherit it."""
    for pid in cgroups.processes(path):
        try:
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(score))
        except PermissionError:
            _LOG.warning("%s: left out: oom_score_adj: %d is below what this host allows crisp", what, score)
            return
        except (FileNotFoundError, ProcessLookupError):  # it ended
            continue


def keep(folder: ContainerBundle, held: Resources, known: Support) -> None:
    """Write the new limits into the bundle: what inspection shows, and what the next update starts from."""
    request = folder.request.read()
    if request is not None:
        folder.request.write(msgspec.structs.replace(request, resources=held))
    try:
        spec: dict[str, dict[str, dict[str, object]]] = msgspec.json.decode(folder.config.read_bytes())
        resources = spec["linux"]["resources"]
        resources.update(limits.spec(held, known))
        bundle.write(folder.config, msgspec.json.encode(spec))
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise Internal(f"{folder.config} does not read back: {error}") from error


def write(cgroups: Cgroups, path: str, planned: tuple[Write, ...], what: str) -> None:
    """All of the files or none."""
    before: list[tuple[Path, str]] = []
    late: list[Write] = []
    try:
        for one in planned:
            if not _one(cgroups, path, one, before):
                late.append(one)
        for one in late:
            if not _one(cgroups, path, one, before):
                raise InvalidInput(f"{what}: the kernel refuses {one.file} = {one.value[:64]!r}")
    except Exception:
        for file, value in reversed(before):
            with suppress(OSError):  # as it was, as far as that goes
                file.write_text(value)
        raise


def _one(cgroups: Cgroups, path: str, write: Write, before: list[tuple[Path, str]]) -> bool:
    """Write a file and remember its value; False where the kernel refuses the value."""
    file = _folder(cgroups, write.controller, path) / write.file
    try:
        value = file.read_text().strip()
        file.write_text(write.value)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ERANGE):
            return False
        if error.errno == errno.EBUSY:
            raise FailedPrecondition(f"{write.file}: {write.value} is below what is in use") from error
        if error.errno == errno.ENOENT and file.parent.is_dir():
            raise InvalidInput(f"linux.resources: this host has no {write.file}") from error
        raise Internal(f"{file}: {error.strerror}") from error
    before.append((file, value))
    return True


def _folder(cgroups: Cgroups, controller: str, path: str) -> Path:
    found = cgroups.hierarchies
    root = found.unified if found.only_v2 else found.v1.get(controller)
    if root is None:
        raise FileNotFoundError(errno.ENOENT, "no such controller", controller)
    return root / path.lstrip("/")
