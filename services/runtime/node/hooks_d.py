"""Chooses the OCI hooks of a container from folders (oci-hooks(5), schema 1.0.0), with their stages. Pure.

A file names a program, its conditions, and the stages in which the OCI runtime runs it. All conditions of a file must
hold (any of them with `or`); a file without any never applies. A later folder's file replaces an earlier one's of the
same name. If a file cannot be read, no container starts: to leave out a hook could be to leave out a protection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from kernel.errors import FailedPrecondition
from services.runtime.node.admin_files import AdminFile
from services.runtime.spec.additions import STAGES, Edits

VERSION = "1.0.0"


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """The program, in the form of config.json (config.md, POSIX-platform Hooks)."""

    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The conditions of a file."""

    always: bool | None = None
    annotations: dict[str, str] = {}
    """Regular expressions for key and value: for each pair, some annotation must match both."""
    commands: list[str] = []
    """Regular expressions: one of them must match the first word of the container's command."""
    has_bind_mounts: bool | None = None
    """Whether the request has mounts."""
    or_: bool = msgspec.field(name="or", default=False)


class HookFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a hook."""

    version: str
    hook: Hook
    when: When
    stages: list[str]


def edits(files: Iterable[AdminFile], *, annotations: Mapping[str, str], command: str, has_bind_mounts: bool) -> Edits:
    """Return the hooks of a container, in order of the files' names; FailedPrecondition names a file that is wrong.

    `command`: the first word of `process.args`.
    """
    chosen = {file.name: file for file in files}
    found = []
    for _, file in sorted(chosen.items()):
        parsed = parse(file)
        if wanted(parsed.when, annotations=annotations, command=command, has_bind_mounts=has_bind_mounts):
            hook: dict[str, object] = {"path": parsed.hook.path}
            for name, value in (("args", parsed.hook.args), ("env", parsed.hook.env), ("timeout", parsed.hook.timeout)):
                if value:
                    hook[name] = value
            found += [(stage, hook) for stage in STAGES if stage in parsed.stages]
    return Edits(hooks=tuple(found))


def parse(file: AdminFile) -> HookFile:
    """Return the hook in a file; FailedPrecondition if it does not follow the schema."""
    if file.reason:
        raise FailedPrecondition(f"hook {file.path}: {file.reason}")
    try:
        parsed = msgspec.json.decode(file.content, type=HookFile)
        for pattern in (*parsed.when.annotations.keys(), *parsed.when.annotations.values(), *parsed.when.commands):
            re.compile(pattern)
    except (msgspec.DecodeError, re.error) as error:
        raise FailedPrecondition(f"hook {file.path}: {error}") from error
    if parsed.version != VERSION:
        raise FailedPrecondition(f"hook {file.path}: version {parsed.version[:20]!r} is not {VERSION}")
    if not parsed.hook.path.startswith("/"):
        raise FailedPrecondition(f"hook {file.path}: hook.path {parsed.hook.path[:80]!r} is not absolute")
    if parsed.hook.timeout is not None and parsed.hook.timeout <= 0:
        raise FailedPrecondition(f"hook {file.path}: hook.timeout {parsed.hook.timeout} is not positive")
    unknown = [stage for stage in parsed.stages if stage not in STAGES]
    if unknown or not parsed.stages:
        raise FailedPrecondition(f"hook {file.path}: stages {unknown} are not among {', '.join(STAGES)}")
    return parsed


def wanted(when: When, *, annotations: Mapping[str, str], command: str, has_bind_mounts: bool) -> bool:
    """Return whether the conditions hold."""
    results = []
    if when.always is not None:
        results.append(when.always)
    if when.has_bind_mounts is not None:
        results.append(when.has_bind_mounts == has_bind_mounts)
    if when.commands:
        results.append(any(re.search(pattern, command) for pattern in when.commands))
    results += [
        any(re.search(key, name) and re.search(value, text) for name, text in annotations.items())
        for key, value in when.annotations.items()
    ]
    return bool(results) and (any(results) if when.or_ else all(results))
