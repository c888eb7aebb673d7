"""Credential helpers: what they may be, how they are run, and what their answers mean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.config.sections import ImageSection
from kernel.contracts.oci import Auth
from kernel.errors import CrispError, DeadlineExceeded, FailedPrecondition, Internal, InvalidInput, NotFound
from kernel.host.aio import Deadline
from services.runtime.programs.credential_helper import ask, parse

SECRET = "hunter2-do-not-show"
USER = "nobody"
root = pytest.mark.skipif(os.getuid() != 0, reason="drops root's privileges")


def helper(folder: Path, script: str, name: str = "test", mode: int = 0o755) -> ImageSection:
    for part in (folder, *folder.parents):
        if part != Path("/tmp") and os.stat(part).st_uid == os.getuid() and len(part.parts) > 2:
            part.chmod(0o755)
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)
    return ImageSection(credential_helper_dir=str(folder), user=USER)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (f'{{"ServerURL":"x","Username":"ann","Secret":"{SECRET}"}}', Auth(username="ann", password=SECRET)),
        (f'{{"Username":"<token>","Secret":"{SECRET}"}}', Auth(identity_token=SECRET)),
    ],
)
def test_answers(output: str, expected: Auth) -> None:
    assert parse(output.encode(), "x") == expected


@pytest.mark.parametrize(
    "output", ["", SECRET, "[]", f'{{"Secret":"{SECRET}"}}', f'{{"Username":["{SECRET}"],"Secret":""}}',
               f'{{"Username":"a","Username":"{SECRET}","Secret":""}}', "[" * 100_000],
)  # fmt: skip
def test_bad_answers_are_not_repeated(output: str) -> None:
    with pytest.raises(Internal, match="helper x") as caught:
        parse(output.encode(), "helper x")
    assert SECRET not in str(caught.value)


@root
async def test_a_helper_has_no_privileges_and_is_told_the_server(tmp_path: Path) -> None:
    script = """
        read server
        caps=$(grep -E '^Cap(Eff|Prm|Bnd|Inh|Amb)' /proc/self/status | grep -cv 0000000000000000)
        new=$(grep -c 'NoNewPrivs:.1' /proc/self/status)
        echo "{\\"Username\\":\\"$1,$server,$(id -u),$(id -G),$caps,$new,$HOME,$SECRET_OF_OURS\\",\\"Secret\\":\\"s\\"}"
    """
    found = await ask(helper(tmp_path, script), "test", "https://index.docker.io/v1/", Deadline.after(20))
    assert found.username == "get,https://index.docker.io/v1/,65534,65534,0,1,/nonexistent,"


@root
async def test_a_helper_that_knows_nothing_fails_or_hangs(tmp_path: Path) -> None:
    settings = helper(tmp_path, "echo credentials not found in native keychain; exit 1", "none")
    assert await ask(settings, "none", "a.example", Deadline.after(20)) == Auth()
    helper(tmp_path, f"echo {SECRET}; echo {SECRET} >&2; exit 3", "fails")
    with pytest.raises(Internal, match=r"helper fails for a\.example: exit status 3") as caught:
        await ask(settings, "fails", "a.example", Deadline.after(20))
    assert SECRET not in str(caught.value)
    helper(tmp_path, "exec sleep 600", "hangs")
    with pytest.raises(DeadlineExceeded):
        await ask(settings, "hangs", "a.example", Deadline.after(0.3))


@root
@pytest.mark.parametrize(
    ("name", "server", "error"),
    [
        ("absent", "a.example", NotFound),
        ("../docker-credential-test", "a.example", InvalidInput),
        ("loose", "a.example", FailedPrecondition),
        ("test", "a.example\nb.example", InvalidInput),
        ("test", "", InvalidInput),
    ],
)
async def test_what_is_not_run(tmp_path: Path, name: str, server: str, error: type[CrispError]) -> None:
    settings = helper(tmp_path, f"touch {tmp_path}/ran")
    helper(tmp_path, f"touch {tmp_path}/ran", "loose", 0o777)
    with pytest.raises(error):
        await ask(settings, name, server, Deadline.after(20))
    with pytest.raises(FailedPrecondition, match="credential_helper_dir is empty"):
        await ask(ImageSection(), "test", "a.example", Deadline.after(20))
    assert not (tmp_path / "ran").exists()
