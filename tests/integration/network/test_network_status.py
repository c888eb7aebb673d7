"""CNI 1.1: what the plugins say of themselves shows in the readiness; pods are tried all the same."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from kernel.contracts.definition import Nothing
from kernel.contracts.network import Readiness
from kernel.ids import SandboxId
from services.network import methods
from tests.integration.network.conftest import Client, FakeCall, Node
from tests.integration.network.test_methods import PASS


async def told(call: FakeCall) -> Readiness:
    readiness = await asyncio.wait_for(call.told.get(), 10)
    assert isinstance(readiness, Readiness)
    return readiness


async def test_readiness_follows_the_plugins(node: Node, sandbox: SandboxId) -> None:
    often = msgspec.structs.replace(node.config.network, status_interval=0.05)
    client = Client(await methods.create(msgspec.structs.replace(node.config, network=often)))
    say = 'echo \'{"code": 50, "msg": "no daemon", "details": "yet"}\'; exit 1'
    plugin = node.script("moody", f'test "$CNI_COMMAND" = STATUS && test ! -e {node.root}/up && {{ {say}; }}; {PASS}')
    call = FakeCall()
    watching = asyncio.get_running_loop().create_task(client.service.watch_ready(Nothing(), call))
    assert not (await told(call)).ready
    node.configure({**node.bridge_plugin(), "type": "one"}, plugin, version="1.1.0")
    node.script("one", 'echo \'{"ips": [{"address": "10.9.9.9/24"}]}\'')
    readiness = await told(call)
    while readiness.ready or "moody" not in readiness.message:
        readiness = await told(call)
    assert readiness.reason == "NetworkPluginNotReady"
    assert "plugin moody: no daemon; yet (STATUS for network" in readiness.message
    assert (await client.attach(sandbox)).ips == ("10.9.9.9",)  # the plugin itself is asked by ADD
    (node.root / "up").touch()
    assert (await told(call)).ready
    (node.root / "up").unlink()
    assert not (await told(call)).ready
    await client.detach(sandbox)
    watching.cancel()
    await asyncio.wait([watching])
    await client.service.close()


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
async def test_older_networks_are_not_asked(node: Node, version: str, sandbox: SandboxId) -> None:
    node.configure(node.bridge_plugin(), node.script("old", PASS), version=version)
    often = msgspec.structs.replace(node.config.network, status_interval=0.01)
    client = Client(await methods.create(msgspec.structs.replace(node.config, network=often)))
    assert (await client.service.check_ready(Nothing(), FakeCall())).ready
    await client.attach(sandbox)
    await client.detach(sandbox)
    assert node.asked("old") == ["ADD", "DEL"]
    await client.service.close()


async def test_status_that_hangs_is_ended_and_told(node: Node) -> None:
    node.configure(node.script("stuck", "sleep 60"), version="1.1.0")
    hasty = msgspec.structs.replace(node.config.network, timeout=0.2)
    client = Client(await methods.create(msgspec.structs.replace(node.config, network=hasty)))
    call = FakeCall()
    watching = asyncio.get_running_loop().create_task(client.service.watch_ready(Nothing(), call))
    readiness = await told(call)
    while readiness.ready:
        readiness = await told(call)
    assert "plugin stuck: did not end in time" in readiness.message
    watching.cancel()
    await asyncio.wait([watching])
    await client.service.close()
