"""The network worker's methods with the real bridge, host-local and portmap plugins, and with ones that misbehave."""

import asyncio
import fcntl
import gc
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kernel.bus import worker
from kernel.contracts.definition import Nothing
from kernel.contracts.network import CONTRACT, PortMapping, Readiness
from kernel.errors import DeadlineExceeded, FailedPrecondition, Internal, InvalidInput
from kernel.host import aio
from kernel.ids import SandboxId, new_id
from services.network import methods
from services.network.links import netns
from services.network.pods.pod_table import Pods
from tests.integration.network.conftest import Client, FakeCall, Node, rules, run

HTTP = PortMapping(protocol="tcp", container_port=8080, host_port=18080)
FAIL = 'test "$CNI_COMMAND" = DEL && exit 0; echo \'{"code": 100, "msg": "no", "details": "why"}\'; exit 1'
CAREFUL = (sys.executable, "-c")


async def test_the_service_serves_its_contract(client: Client) -> None:
    assert worker.handlers(CONTRACT, client.service).keys() == CONTRACT.methods.keys()
    for name, method in CONTRACT.methods.items():
        hints = inspect.get_annotations(getattr(type(client.service), name), eval_str=True)
        assert (hints["request"], hints["return"]) == (method.request, method.reply), name


async def test_a_pod_gets_an_address_and_gives_it_back(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure()
    attached = await client.attach(sandbox)
    assert attached.ips[0].startswith(node.subnet)
    inside = json.loads(run("nsenter", f"--net={node.pin(sandbox)}", "ip", "-j", "addr", "show", "eth0"))
    assert inside[0]["addr_info"][0]["local"] == attached.ips[0]
    inventory = await client.service.inventory(Nothing(), FakeCall())
    assert inventory.namespaces == inventory.attachments == (sandbox,)
    assert inventory.leases == {attached.ips[0]: sandbox}
    await client.detach(sandbox)
    await client.detach(sandbox)
    inventory = await client.service.inventory(Nothing(), FakeCall())
    assert (inventory.namespaces, inventory.attachments, inventory.leases) == ((), (), {})


async def test_a_host_port_reaches_the_pod(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure()
    await client.attach(sandbox, HTTP)
    serve = (
        "import socket; s = socket.create_server(('', 8080)); print('up', flush=True); c, _ = s.accept();"
        "c.sendall(b'hello'); c.close()"
    )
    with subprocess.Popen(["nsenter", f"--net={node.pin(sandbox)}", *CAREFUL, serve], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert await asyncio.to_thread(server.stdout.readline) == b"up\n"
            with socket.create_connection(("127.0.0.1", HTTP.host_port), timeout=5) as connection:
                assert await asyncio.to_thread(connection.recv, 100) == b"hello"
        finally:
            server.kill()
    await client.detach(sandbox)
    assert not [line for line in rules() if str(HTTP.host_port) in line]


async def test_attaching_again_gives_the_same_addresses_without_a_plugin(
    node: Node, client: Client, sandbox: SandboxId
) -> None:
    node.configure(node.bridge_plugin(), node.script("count", PASS))
    first = await client.attach(sandbox)
    namespace = node.pin(sandbox).stat().st_ino
    (node.net_d / "10.conflist").unlink()
    assert await client.attach(sandbox) == first
    again = Client(await methods.create(node.config))
    assert await again.attach(sandbox) == first
    assert node.asked("count") == ["ADD"]
    assert node.pin(sandbox).stat().st_ino == namespace
    await again.detach(sandbox)
    await again.service.close()


async def test_calls_for_a_sandbox_take_turns_and_sandboxes_run_side_by_side(node: Node, client: Client) -> None:
    node.configure()
    sandboxes = [SandboxId(new_id()) for _ in range(4)]
    attached = await asyncio.gather(*(client.attach(sandbox) for sandbox in sandboxes * 2))
    assert attached[:4] == attached[4:]
    assert len({each.ips for each in attached}) == 4
    await asyncio.gather(*(client.detach(sandbox) for sandbox in sandboxes * 2))


async def test_an_add_that_fails_leaves_nothing(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(node.bridge_plugin(), node.script("fail", FAIL))
    with pytest.raises(Internal, match=r"^plugin fail: no; why"):
        await client.attach(sandbox, HTTP)
    assert node.asked("fail") == ["ADD", "DEL"]
    assert node.leaks() == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo garbage", "malformed result"),
        ('echo \'{"cniVersion": "1.0.0"}\'', "no address"),
    ],
)
async def test_an_answer_that_makes_no_sense_leaves_nothing(
    node: Node, client: Client, sandbox: SandboxId, body: str, said: str
) -> None:
    node.configure(node.bridge_plugin(), node.script("odd", f'test "$CNI_COMMAND" = DEL && exit 0; {body}'))
    with pytest.raises(Internal, match=said):
        await client.attach(sandbox)


async def test_a_plugin_that_hangs_is_ended_and_undone(node: Node, sandbox: SandboxId) -> None:
    impatient = msgspec.structs.replace(node.config, network=msgspec.structs.replace(node.config.network, timeout=0.5))
    node.configure(node.bridge_plugin(), node.script("hang", 'test "$CNI_COMMAND" = DEL && exit 0; sleep 60'))
    client = Client(await methods.create(impatient))
    with pytest.raises(DeadlineExceeded, match=r"^plugin hang: did not end in time"):
        await client.attach(sandbox)
    assert node.leaks() == []
    await client.service.close()


async def test_a_caller_that_leaves_leaves_nothing(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(node.bridge_plugin(), node.script("slow", "test $CNI_COMMAND = ADD && sleep 0.5; " + PASS))
    with pytest.raises(DeadlineExceeded):
        await client.attach(sandbox, seconds=0.3)
    await client.detach(sandbox)  # waits for its turn: what was begun is done with then
    assert node.asked("slow").count("ADD") <= 1


async def test_a_bug_in_an_add_whose_caller_left_is_reported(
    client: Client, sandbox: SandboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    aio.report_lost_errors()
    gate, before = asyncio.Event(), aio.FAILURES.bugs

    async def broken(*_: object) -> tuple[str, ...]:
        await gate.wait()
        raise KeyError("a bug")

    monkeypatch.setattr(Pods, "join", broken)
    with pytest.raises(DeadlineExceeded):
        await client.attach(sandbox, seconds=0.05)
    gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert aio.FAILURES.bugs == before + 1


async def test_a_caller_that_leaves_and_asks_again_is_served(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(node.bridge_plugin(), node.script("slow", "test $CNI_COMMAND = ADD && sleep 0.3; " + PASS))
    first = asyncio.get_running_loop().create_task(client.attach(sandbox))
    await asyncio.wait([first], timeout=0.1)
    first.cancel()
    attached = await client.attach(sandbox)
    assert first.cancelled()
    assert node.lease_files() == list(attached.ips)
    await client.detach(sandbox)


async def test_a_caller_that_leaves_before_its_turn_undoes_nothing(
    node: Node, client: Client, sandbox: SandboxId
) -> None:
    node.configure(node.bridge_plugin(), node.script("slow", "test $CNI_COMMAND = ADD && sleep 0.3; " + PASS))
    first = asyncio.get_running_loop().create_task(client.attach(sandbox))
    await asyncio.wait([first], timeout=0.05)
    with pytest.raises(DeadlineExceeded):
        await client.attach(sandbox, seconds=0.1)
    attached = await first
    assert await client.attach(sandbox) == attached
    assert node.asked("slow") == ["ADD"]
    await client.detach(sandbox)


async def test_host_ports_that_nobody_forwards_are_told(
    node: Node, sandbox: SandboxId, caplog: pytest.LogCaptureFixture
) -> None:
    node.configure(node.bridge_plugin())
    by_cni = msgspec.structs.replace(node.config.network, host_ports="cni")
    client = Client(await methods.create(msgspec.structs.replace(node.config, network=by_cni)))
    await client.attach(sandbox, HTTP)
    assert "host ports are not forwarded" in caplog.text
    await client.detach(sandbox)
    await client.service.close()


async def test_after_a_reboot_attach_makes_all_anew(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure()
    first = await client.attach(sandbox)
    await reboot(node, sandbox)
    second = await client.attach(sandbox)
    assert netns.is_pinned(node.pin(sandbox))
    assert node.lease_files() == list(second.ips) != list(first.ips)
    await client.detach(sandbox)


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "still running"])
async def test_an_add_cut_off_by_a_kill_is_made_again(
    node: Node, client: Client, sandbox: SandboxId, ended: bool
) -> None:
    """The worker is killed while a plugin runs; the plugin ends with it, or lives on for a while."""
    gate = node.root / "gate"
    os.mkfifo(gate)
    node.configure(
        node.bridge_plugin(),
        node.script("stop", f"test $CNI_COMMAND = ADD && test -p {gate} && echo $$ > {gate} && cat {gate}; " + PASS),
    )
    request = f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n" + ATTACH.format(
        config=json.dumps(as_dict(node)), sandbox=sandbox
    )
    with subprocess.Popen([*CAREFUL, request]) as killed:
        plugin = int(await asyncio.wait_for(asyncio.to_thread(gate.read_text), 10))
        killed.kill()
    cut_off = node.lease_files()
    assert len(cut_off) == 1
    mark = node.config.paths.network_state / f"{sandbox}.running"
    with mark.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if ended:
        os.killpg(plugin, signal.SIGKILL)
        gate.unlink()
        attached = await client.attach(sandbox)
    else:
        waiting = asyncio.get_running_loop().create_task(client.attach(sandbox))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        opened = await asyncio.to_thread(gate.open, "w")
        gate.unlink()
        opened.close()
        attached = await waiting
    assert node.lease_files() == list(attached.ips) != cut_off
    await client.detach(sandbox)


async def test_without_a_network_a_pod_is_refused_and_nothing_is_made(
    node: Node, client: Client, sandbox: SandboxId
) -> None:
    with pytest.raises(FailedPrecondition, match="No CNI configuration file"):
        await client.attach(sandbox)
    assert node.leaks() == []


async def test_bad_requests_name_the_field(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure()
    with pytest.raises(InvalidInput, match=r"port_mappings\[0\].host_port: 70000"):
        await client.attach(sandbox, PortMapping(protocol="tcp", container_port=1, host_port=70000))
    for call in (client.attach, client.detach):
        with pytest.raises(InvalidInput, match="pod sandbox id"):
            await call(SandboxId("../x"))
    assert node.leaks() == []


async def test_readiness_is_watched(node: Node, client: Client) -> None:
    call = FakeCall()
    watching = asyncio.get_running_loop().create_task(client.service.watch_ready(Nothing(), call))
    first = await asyncio.wait_for(call.told.get(), 5)
    assert isinstance(first, Readiness)
    assert (first.ready, first.reason) == (False, "NetworkPluginNotReady")
    node.configure()
    assert await asyncio.wait_for(call.told.get(), 5) == Readiness(ready=True)
    assert await client.service.check_ready(Nothing(), call) == Readiness(ready=True)
    watching.cancel()
    await asyncio.wait([watching])


async def test_the_workers_privileges_are_enough(node: Node, sandbox: SandboxId) -> None:
    """ADD with a host port, and DEL, with the capabilities of the privilege table and no more."""
    node.configure()
    program = f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n" + ATTACH.format(
        config=json.dumps(as_dict(node)), sandbox=sandbox
    )
    confined = [
        "setpriv", "--no-new-privs", "--inh-caps=-all",
        "--bounding-set=-all,+net_admin,+net_raw,+sys_admin,+dac_override", *CAREFUL, program + DETACH,
    ]  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, confined, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{node.subnet}.")


PASS = "cat | sed 's/.*\"prevResult\"://; s/}$//'"
"""A plugin that answers with the result before."""

ATTACH = """
import asyncio, json
import msgspec
from kernel.config.reading import Config
from kernel.contracts.network import AttachRequest, PortMapping, SandboxRequest
from kernel.host.aio import Deadline
from services.network.methods import create

class Call:
    deadline = Deadline.after(20)

config = msgspec.convert(json.loads('''{config}'''), Config)
sandbox = '{sandbox}'
mapping = PortMapping(protocol='tcp', container_port=80, host_port=18081)
request = AttachRequest(sandbox_id=sandbox, name='web', namespace='test', uid='1', port_mappings=(mapping,))
loop = asyncio.new_event_loop()
service = loop.run_until_complete(create(config))
print(loop.run_until_complete(service.attach(request, Call)).ips[0])
"""
DETACH = """
loop.run_until_complete(service.detach(SandboxRequest(sandbox_id=sandbox), Call))
loop.run_until_complete(service.close())
"""


async def reboot(node: Node, sandbox: SandboxId) -> None:
    """What is not on disk goes: the namespace, its links, and the packet filter; the boot is another."""
    record = node.config.paths.network_state / f"{sandbox}.json"
    if record.exists():
        record.write_bytes(msgspec.json.encode(msgspec.json.decode(record.read_bytes()) | {"boot": "before"}))
    await netns.remove(node.pin(sandbox))
    run("nft", "flush", "ruleset")


def as_dict(node: Node) -> object:
    """The node's configuration for another process."""
    return msgspec.to_builtins(node.config)
