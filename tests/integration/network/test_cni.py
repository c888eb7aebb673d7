"""Chains of plugins: what each is told, and what becomes of its answer."""

import json
from pathlib import Path

import pytest

from kernel.errors import CrispError, DeadlineExceeded, FailedPrecondition, Internal
from kernel.host.aio import Deadline
from kernel.ids import SandboxId, new_id
from services.network.documents import conflist
from services.network.plugins.cni import Chain
from services.network.records.attachments import Attachment

RESULT = '{"cniVersion": "1.0.0", "ips": [{"address": "10.99.0.2/24"}]}'
SANDBOX = SandboxId(new_id())


class Bench:
    """A folder of scripted plugins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = Chain((str(folder),), timeout=5)

    def plugin(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o700)

    def attachment(self, *kinds: str, version: str = "1.0.0", **changes: object) -> Attachment:
        plugins = [{"type": kind, "capabilities": {"portMappings": kind == "b"}} for kind in kinds]
        text = json.dumps({"cniVersion": version, "name": "pods", "plugins": plugins})
        made: dict[str, object] = {
            "sandbox_id": SANDBOX,
            "interface": "eth0",
            "network": conflist.parse(text.encode(), "x.conflist"),
            "arguments": "IgnoreUnknown=1;K8S_POD_NAME=web",
            "runtime_config": {"portMappings": [{"hostPort": 80}]},
        }
        return Attachment(**{**made, **changes})  # type: ignore[arg-type]

    async def add(self, attachment: Attachment, seconds: float = 5) -> dict[str, object]:
        return await self.chain.add(attachment, Path("/pin"), self.folder / "lock", Deadline.after(seconds))

    async def delete(self, attachment: Attachment, netns: str = "/pin") -> None:
        await self.chain.delete(attachment, netns, self.folder / "lock", Deadline.after(5))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


TELL = 'cat > "$0.$CNI_COMMAND.stdin"; env > "$0.$CNI_COMMAND.env"; echo "$0" >> $(dirname $0)/order'


async def test_each_plugin_of_add_gets_the_result_before(bench: Bench) -> None:
    bench.plugin("a", f"{TELL}; echo '{RESULT}'")
    bench.plugin("b", f"{TELL}; echo '{RESULT[:-1]}, \"routes\": []}}'")
    result = await bench.add(bench.attachment("a", "b"))
    assert result["routes"] == []
    first = json.loads((bench.folder / "a.ADD.stdin").read_text())
    second = json.loads((bench.folder / "b.ADD.stdin").read_text())
    assert "prevResult" not in first
    assert "runtimeConfig" not in first
    assert second["prevResult"] == json.loads(RESULT)
    assert second["runtimeConfig"] == {"portMappings": [{"hostPort": 80}]}
    env = dict(line.split("=", 1) for line in (bench.folder / "a.ADD.env").read_text().splitlines())
    assert {key: value for key, value in env.items() if key.startswith("CNI_")} == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": SANDBOX,
        "CNI_NETNS": "/pin",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web",
        "CNI_PATH": str(bench.folder),
    }
    assert not (bench.folder / "lock").exists()


async def test_del_runs_backwards_with_the_result_of_add(bench: Bench) -> None:
    for name in ("a", "b"):
        bench.plugin(name, TELL)
    await bench.delete(bench.attachment("a", "b", result=json.loads(RESULT)), netns="")
    assert [Path(line).name for line in (bench.folder / "order").read_text().split()] == ["b", "a"]
    for name in ("a", "b"):
        assert json.loads((bench.folder / f"{name}.DEL.stdin").read_text())["prevResult"] == json.loads(RESULT)
        assert "CNI_NETNS=\n" in (bench.folder / f"{name}.DEL.env").read_text()


async def test_del_of_old_versions_has_no_result(bench: Bench) -> None:
    bench.plugin("a", TELL)
    await bench.delete(bench.attachment("a", version="0.3.1", result=json.loads(RESULT)))
    assert "prevResult" not in json.loads((bench.folder / "a.DEL.stdin").read_text())


async def test_del_goes_on_past_a_plugin_that_fails(bench: Bench) -> None:
    bench.plugin("a", TELL)
    bench.plugin("b", "echo broken >&2; exit 1")
    with pytest.raises(Internal, match=r"plugin b: exit status 1: broken \(DEL for network pods\)"):
        await bench.delete(bench.attachment("a", "b"))
    assert (bench.folder / "a.DEL.stdin").exists()


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("""echo '{"code": 7, "msg": "no", "details": "why"}'; exit 1""", Internal, r"^plugin a: no; why \(ADD"),
        ("""echo '{"code": 7, "msg": "no"}'""", Internal, "^plugin a: no"),
        ("echo garbage", Internal, "^plugin a: malformed result"),
        ("", Internal, "^plugin a: malformed result"),
        ('echo \'{"ips": [{"address": "127.0.0.1/8"}]}\'', Internal, "127.0.0.1"),
        ("printf '\\377'", Internal, "malformed"),
        ("echo broken; exit 1", Internal, "exit status 1: broken"),
        ("exit 1", Internal, "exit status 1: no output"),
        ("kill -9 $$", Internal, "ended by SIGKILL"),
        ("kill -9 0", Internal, "ended by SIGKILL"),
        ("head -c 50000000 /dev/zero", Internal, "answered more than 1048576 bytes"),
        ("sleep 60", DeadlineExceeded, "^plugin a: did not end in time"),
    ],
)
async def test_misbehaviour_is_told_with_the_plugins_name(
    bench: Bench, body: str, kind: type[CrispError], said: str
) -> None:
    bench.plugin("a", body)
    with pytest.raises(kind, match=said):
        await bench.add(bench.attachment("a"), seconds=1)
    assert not (bench.folder / "lock").exists()


async def test_a_plugin_that_is_missing_is_named(bench: Bench) -> None:
    bench.plugin("a", "exit 0")
    (bench.folder / "b").touch(mode=0o600)
    assert bench.chain.missing(bench.attachment("a", "b", "c").network) == ("b", "c")
    with pytest.raises(FailedPrecondition, match="plugin c: is in none of"):
        await bench.add(bench.attachment("c"))
