"""Credential helpers: the administrator's programs that have the credentials for registries (docker-credential-NAME).

The runtime worker runs them, because no other worker may start a program that is not crisp's. Its privileges are
dropped first: a helper gets the image worker's user, no further group and no capability, and has no way to get any.
Rules kept: only programs of the configured folder are run, whose names passed a check and which no user but root
can write. Their output is parsed as strictly as any input from outside, and is in no log and no error.
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
from kernel.host import files, process
from kernel.host.aio import Deadline
from kernel.ids import helper_name

_SERVER_LIMIT = 512
"""Characters of a server's address."""
_OUTPUT_LIMIT = 128 << 10
_NONE = b"credentials not found"
"""The output of a helper without credentials for a server has this; its exit status is the same as after a failure."""


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    """The output of `docker-credential-NAME get`, as JSON."""

    username: str
    secret: str


async def ask(settings: ImageSection, name: str, server: str, deadline: Deadline) -> Auth:
    """Return a helper's credentials for a server; empty if it has none.

    `name`: NAME of docker-credential-NAME. `server`: the address under which the helper knows it. InvalidInput or
    NotFound if one of them cannot be right, FailedPrecondition if the helper may not be run, Internal if it fails.
    """
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
    """Return the credentials in a helper's output; Internal, without any part of it, if it is malformed. Pure."""
    try:
        found = msgspec.convert(strict_json.loads(output), _Answer)
    except (strict_json.NotStrictJson, msgspec.ValidationError) as error:
        raise Internal(f"{what}: its answer is not that of a credential helper") from error
    if found.username == "<token>":
        return Auth(identity_token=found.secret)
    return Auth(username=found.username, password=found.secret)


def _program(folder: str, name: str) -> Path:
    """Return the path of a helper that may be run."""
    if not folder:
        raise FailedPrecondition(
            f"credential helper {name[:80]!a} may not be run: image.credential_helper_dir is empty"
        )
    path = Path(folder, f"docker-credential-{helper_name(name)}")
    try:
        status = path.stat()
    except OSError as error:
        raise NotFound(f"credential helper {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or files.why_not_trusted(status):
        raise FailedPrecondition(f"credential helper {path} is not a file that root alone can write")
    return path
