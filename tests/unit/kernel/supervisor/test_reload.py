from __future__ import annotations

import msgspec
import pytest

from kernel.config.sections import Config, Handler, ImageSection, NetworkSection, RuntimeSection
from kernel.contracts.records import Sandbox, SandboxState
from kernel.errors import FailedPrecondition
from kernel.ids import SandboxId
from kernel.supervisor import reload

RUNC = Handler(path="/usr/sbin/runc")
CONFIG = Config(runtime=RuntimeSection(handlers={"runc": RUNC, "crun": Handler(path="/usr/bin/crun")}))


def handlers(**named: Handler) -> Config:
    return msgspec.structs.replace(CONFIG, runtime=msgspec.structs.replace(CONFIG.runtime, handlers=named))


def pod(handler: str = "") -> Sandbox:
    return Sandbox(
        id=SandboxId("a" * 64), name="n", namespace="ns", uid="u", attempt=0, state=SandboxState.READY, created_at=0,
        handler=handler, config=b"",
    )  # fmt: skip


def test_nothing_changed_restarts_nobody() -> None:
    assert reload.check(CONFIG, CONFIG, [pod()]) == ()
    assert reload.to_restart(()) == ()


def test_a_new_handler_concerns_runtime_and_front() -> None:
    keys = reload.check(CONFIG, handlers(**CONFIG.runtime.handlers, youki=Handler(path="/y")), [pod()])
    assert keys == ("runtime.handlers",)
    assert reload.to_restart(keys) == ("runtime", "front")


def test_each_section_is_its_workers_and_the_log_level_everybodys() -> None:
    after = msgspec.structs.replace(CONFIG, network=NetworkSection(timeout=5))
    assert reload.to_restart(reload.changed(CONFIG, after)) == ("network", "front")
    after = msgspec.structs.replace(CONFIG, log_level="debug")
    assert reload.to_restart(reload.changed(CONFIG, after)) == (*reload.SECTIONS, "front")


def test_a_key_that_two_workers_read_concerns_both() -> None:
    after = msgspec.structs.replace(CONFIG, image=ImageSection(credential_helper_dir="/usr/libexec/x"))
    assert reload.to_restart(reload.changed(CONFIG, after)) == ("runtime", "image", "front")
    after = msgspec.structs.replace(CONFIG, image=ImageSection(signature_policy="/etc/other.json"))
    assert reload.to_restart(reload.changed(CONFIG, after)) == ("storage", "image", "front")


@pytest.mark.parametrize("key", ["root", "run", "user"])
def test_what_holds_for_all_that_runs_cannot_change(key: str) -> None:
    with pytest.raises(FailedPrecondition, match=key):
        reload.check(CONFIG, msgspec.structs.replace(CONFIG, **{key: "/other"}), [])


def test_a_handler_in_use_stays_where_it_is() -> None:
    with pytest.raises(FailedPrecondition, match="taken away"):
        reload.check(CONFIG, handlers(runc=RUNC), [pod("crun")])
    with pytest.raises(FailedPrecondition, match="another root"):
        reload.check(CONFIG, handlers(runc=Handler(path=RUNC.path, root="/elsewhere")), [pod()])
    assert reload.check(CONFIG, handlers(runc=RUNC), [pod("runc")])
