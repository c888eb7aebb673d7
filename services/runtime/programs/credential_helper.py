"""Credential helpers: the administrator's programs that have the credentials for registries (docker-credential-NAME).

Run here because no other worker may start a program that is not its own; the runtime's privileges are dropped first: a
helper gets the image worker's user, no group, no capability and no way to either. Only programs of the configured
folder are run, whose name passed its check, and that nobody but root can write. What they say is read as strictly as
anybody's, and is in no log or error.
"""

from __future__ import annotations

import pwd
import stat
from pathlib import Path

import msgspec

from kernel.config.sections import ImageSection
from kernel.contracts.oci import Auth
from kernel.errors import FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.formats import strict_json
from kernel.host import process
from kernel.host.aio import Deadline
from kernel.ids import helper_name

_SERVER_LIMIT = 512
_OUTPUT_LIMIT = 128 << 10
_NONE = b"credentials not found"
"""How a helper says that it has none for a server; by its exit status alone that cannot be told from trouble."""


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


async def ask(settings: ImageSection, name: str, server: str, deadline: Deadline) -> Auth:
    """What a helper has for a server; empty where that is nothing. FailedPrecondition where it cannot be run,
    Internal where it fails."""
    if not server or len(server) > _SERVER_LIMIT or not all("!" <= character <= "~" for character in server):
        raise InvalidInput("server: is not the address of a server")
    program = _program(settings.credential_helper_dir, name)
    try:
        user = pwd.getpwnam(settings.user)
    except KeyError as error:
        raise FailedPrecondition(f"user {settings.user} of the image worker does not exist") from error
    argv = (
        "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs",
        "--inh-caps=-all", "--bounding-set=-all", "--", str(program), "get",
    )  # fmt: skip
    done = await process.run(
        argv,
        deadline=deadline,
        input=f"{server}\n".encode(),
        env={**process.ENVIRONMENT, "HOME": "/nonexistent"},
        cwd="/",
        limit=_OUTPUT_LIMIT,
    )
    if done.returncode:
        if _NONE in done.stdout.lower() or _NONE in done.stderr.lower():
            return Auth()
        raise Internal(f"credential helper {name} for {server}: {process.describe(done.returncode)}")
    return parse(done.stdout, f"credential helper {name} for {server}")


def parse(output: bytes, what: str) -> Auth:
    """A helper's answer; Internal, with nothing of it, where it is none."""
    try:
        found = msgspec.convert(strict_json.loads(output), _Answer)
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise Internal(f"{what}: its answer has not the form of one") from error
    if found.username == "<token>":
        return Auth(identity_token=found.secret)
    return Auth(username=found.username, password=found.secret)


def _program(folder: str, name: str) -> Path:
    if not folder:
        raise FailedPrecondition(
            f"credential helper {name[:80]!a} may not be run: image.credential_helper_dir is empty"
        )
    path = Path(folder, f"docker-credential-{helper_name(name)}")
    try:
        found = path.stat()
    except OSError as error:
        raise NotFound(f"credential helper {path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise FailedPrecondition(f"credential helper {path} is not a file that root alone can write")
    return path
