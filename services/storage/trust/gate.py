"""Decides whether the node's policy accepts an image; a child verifies its signatures, if the policy requires any.

Runs in the storage worker, which no network reaches: neither a registry nor the image worker can influence the verdict.
Policy and keys are read again for each verdict, so a change takes effect at once; they must be root's files, and a file
that others can write is refused. The child's answer is remembered for ten minutes, under everything that it depends
on; no longer, because keys expire.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from kernel.config.sections import Config
from kernel.contracts.storage import JudgeRequest
from kernel.errors import Internal, InvalidInput, Untrusted
from kernel.formats.reference import parse as parse_reference
from kernel.host import files, filters, process
from kernel.host.aio import Deadline, Joins, Tasks
from services.storage.confined import system_calls
from services.storage.confined.refusal import failure
from services.storage.trust import policy, verdict
from services.storage.trust.policy import Kind, Requirement

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_SIZE_LIMIT = 1 << 20
"""Most bytes of a policy, or of a key file."""
_NAMESPACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_KINDS = {Kind.SIMPLE: verdict.SIMPLE, Kind.SIGSTORE: verdict.SIGSTORE}
_REMEMBERED = 512
"""The most answers that are remembered."""
_REMEMBERED_SECONDS = 600.0
_CHILDREN = 2
"""Children at once; further requests wait."""
_SECONDS = 20.0
"""The most seconds that one child takes."""


class Gate:
    """Accepts or refuses images. `tasks` is the worker's."""

    def __init__(self, config: Config, tasks: Tasks) -> None:
        self._file = Path(config.image.signature_policy)
        self._folder = Path(config.image.signature_policy_dir) if config.image.signature_policy_dir else None
        self._workdir = str(config.paths.layers)
        self._verifying: Joins[bytes, list[str]] = Joins(tasks)
        self._children = asyncio.Semaphore(_CHILDREN)
        self._verdicts: dict[bytes, tuple[float, list[str]]] = {}
        self._filter = ""
        # Threads of its own: if a key lies on a file system that hangs, verdicts wait, and nothing else of this worker.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="policy")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    async def announce(self) -> None:
        """Log an error in the policy, which would refuse every image, before one is refused."""
        try:
            await self._in_thread(lambda: self._policy(""))
        except Untrusted as error:
            _LOG.warning("%s", error)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def judge(self, request: JudgeRequest) -> None:
        """Return if the policy accepts the image; otherwise raise Untrusted with the reason."""
        image = parse_reference(request.reference) if request.reference else None
        what = f"image {image}" if image else "an image without a name"
        file, found = await self._in_thread(lambda: self._policy(request.namespace))
        name, requirements = policy.choose(found, image)
        scope = f"{name} of {file}"
        for requirement in requirements:
            if requirement.kind is Kind.REJECT:
                raise Untrusted(f"{what}: {scope} rejects it")
            if requirement.unsupported:
                raise Untrusted(
                    f"{what}: {scope} asks for {requirement.unsupported}: crisp cannot check that",
                    hint="give the public key as keyPath, keyPaths or keyData, and nothing beside it",
                )
        signed = [requirement for requirement in requirements if requirement.kind in _KINDS]
        if not signed:
            return
        with_keys = await self._in_thread(lambda: tuple(_read_keys(one, f"{what}: {scope}") for one in signed))
        to_verify = verdict.Request(
            requirements=with_keys, reference=request.reference, digests=request.digests, signatures=request.signatures
        )
        for one, reason in zip(with_keys, await self._reasons(to_verify), strict=True):
            if reason:
                form = "simple signing (signedBy)" if one.kind == verdict.SIMPLE else "cosign (sigstoreSigned)"
                raise Untrusted(
                    f"{what}: {scope} requires a signature of {form}: {_printable(reason)}", hint=_hint(request)
                )

    async def _reasons(self, request: verdict.Request) -> list[str]:
        """Return why each requirement is not met; an empty text if it is."""
        kinds = sorted({one.kind for one in request.requirements} & {one.kind for one in request.signatures})
        if not kinds:
            return verdict.judge(request, _nothing_to_check)
        encoded = msgspec.msgpack.encode(request)
        key = hashlib.sha256(encoded).digest()
        at, known = self._verdicts.get(key, (0.0, []))
        if known and time.monotonic() - at < _REMEMBERED_SECONDS:
            return known
        return await self._verifying.join(
            key, lambda: self._verify(key, encoded, kinds, len(request.requirements)), "verify signatures"
        )

    async def _verify(self, key: bytes, request: bytes, kinds: list[str], count: int) -> list[str]:
        """Have a child verify the signatures, and check only the form of its answer: one text for each requirement."""
        self._filter = self._filter or filters.allow_only(system_calls.JUDGE).hex()
        argv = [sys.executable, "-I", "-m", verdict.__name__, self._filter, *kinds]
        async with self._children:
            ended = await process.run(argv, deadline=Deadline.after(_SECONDS), input=request, cwd=self._workdir)
        if ended.returncode:
            raise Internal(f"the child that verifies signatures: {_printable(failure(ended.returncode, ended.stderr))}")
        try:
            answer = msgspec.json.decode(ended.stdout, type=list[str])
        except msgspec.DecodeError as error:
            raise Internal(f"the child that verifies signatures: its answer cannot be decoded: {error}") from error
        if len(answer) != count:
            raise Internal(f"the child that verifies signatures answered {len(answer)} of {count} requirements")
        while len(self._verdicts) >= _REMEMBERED:
            self._verdicts.pop(next(iter(self._verdicts)))
        self._verdicts[key] = (time.monotonic(), answer)
        return answer

    def _policy(self, namespace: str) -> tuple[Path, policy.Policy]:
        """Return the policy for a namespace, its own if it has one and else the node's, with the file that it is in."""
        file = self._file
        if self._folder is not None and namespace:
            if not _NAMESPACE.fullmatch(namespace):
                raise Untrusted(f"namespace {namespace[:100]!a} is no name of a namespace, so no policy can be its own")
            own = self._folder / f"{namespace}.json"
            if os.path.lexists(own):
                file = own
        try:
            return file, policy.parse(read_file(file))
        except FileNotFoundError as error:
            raise Untrusted(
                f"the policy for signatures, {file}, is missing, so no image is accepted",
                hint='write one; {"default": [{"type": "insecureAcceptAnything"}]} accepts all images',
            ) from error
        except OSError as error:
            raise Untrusted(f"the policy for signatures, {file}, cannot be read: {error.strerror}") from error
        except InvalidInput as error:
            raise Untrusted(f"the policy for signatures, {file}, is broken: {error.message}") from error


def read_file(path: Path) -> bytes:
    """Return the content of a file that only root can have written; links to it are followed.

    OSError if it cannot be read, InvalidInput if it is no plain file, too large, or can be written by others.
    """
    try:
        return files.read_trusted(path, _SIZE_LIMIT, follow_link=True)
    except files.NotTrusted as error:
        raise InvalidInput(f"it {error.reason}") from error


def _read_keys(requirement: Requirement, what: str) -> verdict.SignatureRequirement:
    keys = list(requirement.key_data)
    for path in requirement.key_paths:
        try:
            keys.append(read_file(Path(path)))
        except OSError as error:
            raise Untrusted(f"{what}: its key {path} cannot be read: {error.strerror}") from error
        except InvalidInput as error:
            raise Untrusted(f"{what}: its key {path} does not count: {error.message}") from error
    return verdict.SignatureRequirement(kind=_KINDS[requirement.kind], keys=tuple(keys), identity=requirement.identity)


def _printable(text: str) -> str:
    """Return a child's text as an error may repeat it: a child that was taken over must not add lines to the log."""
    return "".join(character if character.isprintable() else "?" for character in text[:1000])


def _nothing_to_check(requirement: verdict.SignatureRequirement) -> verdict.Check:
    raise AssertionError(f"no signature of kind {requirement.kind} was found")


def _hint(request: JudgeRequest) -> str:
    if request.signatures:
        return ""
    return "registries.d names where signatures are; an image that was pulled before it did has to be pulled again"
