"""The process of a command in a container."""

from __future__ import annotations

import msgspec
import pytest

from kernel.contracts.oci import IdMap, IdRange
from kernel.errors import InvalidInput
from services.runtime.spec import exec_spec

PROCESS = {
    "terminal": True, "consoleSize": {"width": 1, "height": 1}, "user": {"uid": 33, "gid": 44}, "args": ["init"],
    "env": ["A=b"], "cwd": "/", "noNewPrivileges": True,
}  # fmt: skip
CONFIG = msgspec.json.encode({"ociVersion": "1.0.2", "process": PROCESS, "linux": {}})


def made(*cmd: str, config: bytes = CONFIG, **fields: object) -> dict[str, object]:
    found = msgspec.json.decode(exec_spec.process(config, cmd, **fields))  # type: ignore[arg-type]
    assert isinstance(found, dict)
    return found


def test_a_command_has_all_that_the_container_has_but_its_words_and_terminal() -> None:
    assert made("ls", "-l") == {
        "terminal": False, "user": PROCESS["user"], "args": ["ls", "-l"], "env": ["A=b"], "cwd": "/",
        "noNewPrivileges": True,
    }  # fmt: skip


def test_a_terminal_comes_with_its_kind_and_its_size_if_known() -> None:
    found = made("sh", tty=True, size=(80, 24))
    assert (found["terminal"], found["consoleSize"]) == (True, {"width": 80, "height": 24})
    assert found["env"] == ["A=b", "TERM=xterm"]
    assert "consoleSize" not in made("sh", tty=True, size=(0, 24))
    own = msgspec.json.encode({"process": {**PROCESS, "env": ["TERM=vt100"]}})
    assert made("sh", config=own, tty=True)["env"] == ["TERM=vt100"]
    bare = msgspec.json.encode({"process": {}})
    assert made("sh", config=bare, tty=True)["env"] == ["TERM=xterm"]


@pytest.mark.parametrize("cmd", [(), ("",), ("a", "b\0"), ("x" * (2 << 20), "y")], ids=["none", "empty", "NUL", "long"])
def test_words_that_no_command_has_are_refused(cmd: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="cmd"):
        exec_spec.check(cmd)


def test_pipes_belong_to_the_user_as_the_host_sees_it() -> None:
    assert exec_spec.owner(CONFIG, None) == (33, 44)
    ids = IdMap(
        uids=IdRange(container_id=0, host_id=100000, length=65536),
        gids=IdRange(container_id=0, host_id=200000, length=65536),
    )
    assert exec_spec.owner(CONFIG, ids) == (100033, 200044)
    assert exec_spec.owner(b'{"process":{}}', None) == (0, 0)


def test_a_configuration_that_does_not_read_is_no_surprise() -> None:
    for content in (b"", b"{}", b'{"process": 3}'):
        with pytest.raises(msgspec.DecodeError):
            exec_spec.process(content, ("ls",))
        with pytest.raises(msgspec.DecodeError):
            exec_spec.owner(content, None)
