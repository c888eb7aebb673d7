"""The verdict over an image: the node's policy, and the child that verifies signatures where the policy asks for some.

Runs in the storage worker, which no network reaches: neither a registry nor the image worker has a say in it. Policy
and keys are read anew for each verdict, so a change counts at once; they are root's files, and count for nothing where
others can write them. What the child said is remembered by all that it was asked, for ten minutes: keys expire.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import stat
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
from kernel.host import process
from kernel.host.aio import Deadline, Joins, Tasks
from services.storage.confined import system_calls
from services.storage.trust import policy, verdict
from services.storage.trust.policy import Kind, Requirement

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)
_SIZE_LIMIT = 1 << 20
"""Of a policy, or of a key file."""
_NAMESPACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_KINDS = {Kind.SIMPLE: verdict.SIMPLE, Kind.SIGSTORE: verdict.SIGSTORE}
_REMEMBERED = 512
_REMEMBERED_SECONDS = 600.0
_CHILDREN = 2
"""At once; others wait."""


class Court:
    """Judges images. `tasks` is the worker's."""

    def __init__(self, config: Config, tasks: Tasks) -> None:
        self._file = Path(config.image.signature_policy)
        self._folder = Path(config.image.signature_policy_dir) if config.image.signature_policy_dir else None
        self._workdir = str(config.paths.layers)
        self._verifying: Joins[bytes, list[str]] = Joins(tasks)
        self._children = asyncio.Semaphore(_CHILDREN)
        self._verdicts: dict[bytes, tuple[float, list[str]]] = {}
        self._filter = ""
        # Of its own: where a key lies on a file system that hangs, verdicts wait, and nothing else of this worker does.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="policy")

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False)

    async def announce(self) -> None:
        """Say in the log what would refuse every image, before one is refused."""
        try:
            await self._in_thread(lambda: self._policy(""))
        except Untrusted as error:
            _LOG.warning("%s", error)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def judge(self, request: JudgeRequest) -> None:
        """Back where the policy accepts the image; Untrusted says why it does not."""
        image = parse_reference(request.reference) if request.reference else None
        what = f"image {image}" if image else "an image without a name"
        file, found = await self._in_thread(lambda: self._policy(request.namespace))
        scope, requirements = policy.choose(found, image)
        law = f"{scope} of {file}"
        for one in requirements:
            if one.kind is Kind.REJECT:
                raise Untrusted(f"{what}: {law} rejects it")
            if one.unsupported:
                raise Untrusted(
                    f"{what}: {law} asks for {one.unsupported}: crisp cannot check that",
                    hint="give the public key as keyPath, keyPaths or keyData, and nothing beside it",
                )
        asked = [one for one in requirements if one.kind in _KINDS]
        if not asked:
            return
        demands = await self._in_thread(lambda: tuple(_demand(one, f"{what}: {law}") for one in asked))
        case = verdict.Case(
            demands=demands, reference=request.reference, digests=request.digests, signatures=request.signatures
        )
        for demand, reason in zip(demands, await self._reasons(case), strict=True):
            if reason:
                asks = "simple signing (signedBy)" if demand.kind == verdict.SIMPLE else "cosign (sigstoreSigned)"
                raise Untrusted(f"{what}: {law} asks for a signature of {asks}: {_words(reason)}", hint=_hint(request))

    async def _reasons(self, case: verdict.Case) -> list[str]:
        kinds = sorted({demand.kind for demand in case.demands} & {one.kind for one in case.signatures})
        if not kinds:
            return verdict.judge(case, _nothing_to_check)
        encoded = msgspec.msgpack.encode(case)
        key = hashlib.sha256(encoded).digest()
        at, known = self._verdicts.get(key, (0.0, []))
        if known and time.monotonic() - at < _REMEMBERED_SECONDS:
            return known
        if not self._verifying.running(key):
            self._verifying.begin(key, self._verify(key, encoded, kinds, len(case.demands)), "verify signatures")
        return await self._verifying.wait(key)

    async def _verify(self, key: bytes, case: bytes, kinds: list[str], demands: int) -> list[str]:
        """Ask a child; its answer is as good as it must be: one text for each demand."""
        self._filter = self._filter or system_calls.compile_filter(system_calls.JUDGE).hex()
        argv = [sys.executable, "-I", "-m", verdict.__name__, self._filter, *kinds]
        async with self._children:
            ended = await process.run(argv, deadline=Deadline.after(20), input=case, cwd=self._workdir)
        if ended.returncode:
            said = _words(ended.stderr.decode(errors="replace").strip()[-300:]) or "it said nothing"
            raise Internal(f"the child that verifies signatures: {process.describe(ended.returncode)}: {said}")
        try:
            answer = msgspec.json.decode(ended.stdout, type=list[str])
        except msgspec.DecodeError as error:
            raise Internal(f"the child that verifies signatures: its answer is not understood: {error}") from error
        if len(answer) != demands:
            raise Internal(f"the child that verifies signatures answered {len(answer)} of {demands} questions")
        while len(self._verdicts) >= _REMEMBERED:
            self._verdicts.pop(next(iter(self._verdicts)))
        self._verdicts[key] = (time.monotonic(), answer)
        return answer

    def _policy(self, namespace: str) -> tuple[Path, policy.Policy]:
        """The policy for a namespace: its own where it has one, else the node's."""
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
    """A file that only root can have written; OSError where it cannot be read, InvalidInput where it does not count."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise InvalidInput("it is not a plain file")
    with os.fdopen(fd, "rb") as file:
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidInput("others than root can write it")
        data = file.read(_SIZE_LIMIT + 1)
    if len(data) > _SIZE_LIMIT:
        raise InvalidInput(f"it is larger than {_SIZE_LIMIT} bytes")
    return data


def _demand(asked: Requirement, what: str) -> verdict.Demand:
    keys = list(asked.key_data)
    for path in asked.key_paths:
        try:
            keys.append(read_file(Path(path)))
        except OSError as error:
            raise Untrusted(f"{what}: its key {path} cannot be read: {error.strerror}") from error
        except InvalidInput as error:
            raise Untrusted(f"{what}: its key {path} does not count: {error.message}") from error
    return verdict.Demand(kind=_KINDS[asked.kind], keys=tuple(keys), identity=asked.identity)


def _words(text: str) -> str:
    """What the child said as an error may repeat it: whoever took it over writes no lines of his own into the log."""
    return "".join(character if character.isprintable() else "?" for character in text[:1000])


def _nothing_to_check(demand: verdict.Demand) -> verdict.Check:
    raise AssertionError(f"no signature of kind {demand.kind} was found")


def _hint(request: JudgeRequest) -> str:
    if request.signatures:
        return ""
    return "registries.d names where signatures are; an image that was pulled before it did has to be pulled again"
