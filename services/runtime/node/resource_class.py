"""Finds the class of block I/O or RDT that a container is in, by its own and its pod's annotations. Pure.

Classes of block I/O are in a file (see `blockio`); classes of RDT, Intel's control of caches and memory bandwidth, are
groups of resctrl. The container's own annotation comes first, then the pod's for this container, then the pod's for
all. An empty name is no class.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from kernel.contracts.runtime import CreateRequest, PodRequest
from kernel.errors import FailedPrecondition, InvalidInput
from services.runtime.spec.additions import Json

Kind = Literal["blockio", "rdt"]
_RDT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}", re.ASCII)
_NOT_GROUPS = frozenset({"info", "mon_data", "mon_groups"})
"""Folders of resctrl that are no groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A class, and the annotation that names it."""

    name: str
    field: str
    """Path of the annotation in the CRI request, for errors."""


def requested(kind: Kind, pod: PodRequest, request: CreateRequest) -> Requested | None:
    """Return the class of a container; None if it is in none."""
    of_pod = f"{kind}.resources.beta.kubernetes.io"
    sources = (
        (request.annotations, f"io.kubernetes.cri.{kind}-class", "config.annotations"),
        (pod.annotations, f"{of_pod}/container.{request.name}", "sandbox_config.annotations"),
        (pod.annotations, f"{of_pod}/pod", "sandbox_config.annotations"),
    )
    for given, key, field in sources:
        if key in given:
            return Requested(name=given[key], field=f"{field}[{key}]") if given[key] else None
    return None


def unknown(wanted: Requested, known: Collection[str]) -> InvalidInput:
    """Return the error for a class that the node does not have. `known`: the classes that it has."""
    there = f"there are {', '.join(sorted(known)[:20])}" if known else "there is none"
    return InvalidInput(f"{wanted.field}: class {wanted.name[:80]!r} is unknown", hint=there)


def rdt(wanted: Requested, groups: Collection[str] | None) -> Json:
    """Return `linux.intelRdt` (config-linux.md, IntelRdt) for a class.

    `groups`: those of resctrl; None if it is not mounted.
    """
    if groups is None:
        raise FailedPrecondition(
            f"{wanted.field}: this host has no resctrl, so there are no RDT classes",
            hint="mount it at /sys/fs/resctrl on a machine with Intel RDT or AMD QoS, or leave the annotation out",
        )
    known = {name for name in groups if _RDT_NAME.fullmatch(name)} - _NOT_GROUPS
    if wanted.name not in known:
        raise unknown(wanted, known)
    return {"closID": wanted.name}
