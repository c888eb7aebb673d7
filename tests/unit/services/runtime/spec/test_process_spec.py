"""The process of a container: command, environment, working directory, OOM score."""

from __future__ import annotations

import msgspec
import pytest

from kernel.contracts.oci import ImageConfig
from kernel.contracts.runtime import NamespaceMode, Resources
from kernel.errors import InvalidInput
from services.runtime.spec import process_spec
from tests.unit.services.runtime.spec.samples import HOST, POD, REQUEST, change, differing, part, plan


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ((), (), ["/entry", "-e", "c1", "c2"]),
        (("x",), (), ["x"]),
        ((), ("a",), ["/entry", "-e", "a"]),
        (("x",), ("a", "b"), ["x", "a", "b"]),
    ],
)
def test_command_replaces_entrypoint_and_args_replace_cmd(
    command: tuple[str, ...], args: tuple[str, ...], words: list[str]
) -> None:
    assert process_spec.arguments(change(command=command, args=args)) == words


@pytest.mark.parametrize("command", [(), ("",), ("a\0b",), ("x" * 3_000_000,)])
def test_a_command_that_cannot_be(command: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="command"):
        process_spec.arguments(change(command=command, image=ImageConfig()))


def test_environment_of_the_image_then_of_the_request() -> None:
    env = process_spec.environment(POD, change(envs=(("A", "2"), ("B", "x=y\nz")), tty=True), HOST)
    assert env == ["PATH=/x", "HOSTNAME=host1", "TERM=xterm", "A=2", "B=x=y\nz"]
    plain = process_spec.environment(POD, change(image=ImageConfig()), HOST)
    assert plain == [f"PATH={process_spec.PATH}", "HOSTNAME=host1"]


@pytest.mark.parametrize("env", [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0"), ("HOME", "/x\ny:z")])
def test_a_variable_that_cannot_be(env: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match="envs"):
        process_spec.environment(POD, change(envs=(env,)), HOST)


def test_working_directory() -> None:
    assert process_spec.working_dir(REQUEST) == "/rel/dir"
    assert process_spec.working_dir(change(working_dir="//a/../b/")) == "/b"
    assert process_spec.working_dir(change(image=ImageConfig())) == "/"
    for path in ("rel", "/proc/self/fd/7", "/x/../proc/1/root", "/proc/thread-self/cwd"):
        with pytest.raises(InvalidInput, match="working_dir"):
            process_spec.working_dir(change(working_dir=path))
    with pytest.raises(InvalidInput, match="WorkingDir"):
        process_spec.working_dir(change(image=ImageConfig(working_dir="/proc/self/fd/8")))


def test_the_process() -> None:
    process = part(plan(), "process")
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [2, 3]}
    assert process["oomScoreAdj"] == 0
    capabilities = part(process, "capabilities")
    assert capabilities["bounding"] == capabilities["effective"] == ["CAP_CHOWN"]
    assert capabilities["inheritable"] == capabilities["ambient"] == []


def test_the_oom_score_is_not_below_what_the_kernel_allows() -> None:
    asked = change(resources=Resources(oom_score_adj=-998))
    assert part(plan(asked), "process")["oomScoreAdj"] == -500
    able = differing(HOST, may_lower_oom_score=True)
    assert part(plan(asked, host=able), "process")["oomScoreAdj"] == -998
    with pytest.raises(InvalidInput, match="oom_score_adj"):
        plan(change(resources=Resources(oom_score_adj=-2000)))


def test_the_hosts_name_in_a_pod_on_its_network() -> None:
    pod = msgspec.structs.replace(POD, network=NamespaceMode.NODE, sysctls={})
    assert process_spec.hostname(pod, HOST) == "thehost"
