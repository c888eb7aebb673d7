from __future__ import annotations

from pathlib import Path

import pytest

from kernel.contracts.runtime import Profile
from kernel.errors import FailedPrecondition
from kernel.host.aio import Deadline
from services.runtime.security.apparmor import OWN, RULES, AppArmor

NODES = Profile(kind="localhost", ref="team", field="linux.security_context.apparmor.localhost_ref")


class Kernel:
    """A host's AppArmor as files, and a parser that writes into them."""

    def __init__(self, folder: Path, *, enabled: bool = True, parser: bool = True) -> None:
        self.module = folder / "enabled"
        self.listing = folder / "profiles"
        self.parser = folder / "parser"
        self.log = folder / "log"
        if enabled:
            self.module.write_text("Y\n")
            self.listing.write_text("team (enforce)\nwith (odd) name (complain)\n")
        if parser:
            self.parser.write_text(
                f'#!/bin/sh\ncat > {folder}/rules; echo "$@" >> {self.log}\necho "{OWN} (enforce)" >> {self.listing}\n'
            )
            self.parser.chmod(0o755)

    def part(self, default: str = OWN) -> AppArmor:
        return AppArmor(default, self.module, self.listing, str(self.parser))


async def choose(part: AppArmor, asked: Profile | None, *, privileged: bool = False) -> str:
    return await part.choose(asked, privileged=privileged, deadline=Deadline.after(10))


async def test_without_apparmor_only_a_name_is_an_error(tmp_path: Path) -> None:
    part = Kernel(tmp_path, enabled=False).part()
    for asked in (None, Profile(kind="default"), Profile(kind="unconfined")):
        assert await choose(part, asked) == ""
    with pytest.raises(FailedPrecondition, match=r"apparmor\.localhost_ref: profile 'team': this kernel has no"):
        await choose(part, NODES)


async def test_a_profile_of_the_node_must_be_loaded(tmp_path: Path) -> None:
    part = Kernel(tmp_path).part()
    assert part.loaded() == {"team", "with (odd) name"}
    assert await choose(part, NODES) == "team"
    assert await choose(part, NODES, privileged=True) == "team"
    with pytest.raises(FailedPrecondition, match="is not loaded"):
        await choose(part, Profile(kind="localhost", ref="other", field="x"))


async def test_the_default_is_loaded_once(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    part = kernel.part()
    assert await choose(part, Profile(kind="unconfined")) == ""
    assert await choose(part, None, privileged=True) == ""
    assert not kernel.log.exists()
    assert [await choose(part, None), await choose(part, Profile(kind="default"))] == [OWN, OWN]
    assert len(kernel.log.read_text().splitlines()) == 1
    assert (tmp_path / "rules").read_text() == RULES


async def test_a_default_that_cannot_be_loaded_stops_no_container(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = Kernel(tmp_path, parser=False)
    part = kernel.part()
    assert [await choose(part, None), await choose(part, None)] == ["", ""]
    kernel.parser.write_text("#!/bin/sh\nexit 1\n")
    kernel.parser.chmod(0o755)
    assert await choose(kernel.part(), None) == ""
    assert sum(OWN in message for message in caplog.messages) == 2


async def test_a_configured_default_is_the_administrators_to_load(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    assert await choose(kernel.part("team"), None) == "team"
    with pytest.raises(FailedPrecondition, match=r"runtime\.apparmor_profile"):
        await choose(kernel.part("none"), None)
