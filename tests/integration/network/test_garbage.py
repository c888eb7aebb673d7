"""GC: plugins of CNI 1.1 are told once, before the first ADD, which attachments are valid."""

from __future__ import annotations

import asyncio
import json

import pytest

from kernel.ids import SandboxId, new_id
from services.network import methods
from tests.integration.network.conftest import Client, Node

ANSWER = 'test "$CNI_COMMAND" = ADD && echo \'{"ips": [{"address": "10.9.9.9/24"}]}\'; exit 0'


async def test_plugins_are_told_at_the_start(node: Node, sandbox: SandboxId) -> None:
    plugin = node.script("keeper", f'cat > "$LOG.$CNI_COMMAND"; {ANSWER}')
    node.configure(plugin, version="1.1.0")
    first = Client(await methods.create(node.config))
    await first.attach(sandbox)
    assert [command for command in node.asked("keeper") if command != "STATUS"] == ["GC", "ADD"]
    assert json.loads((node.root / "keeper.log.GC").read_text())["cni.dev/valid-attachments"] == []
    await first.service.close()
    second = Client(await methods.create(node.config))
    while node.asked("keeper").count("GC") < 2:  # at the start, without a pod that asks for it
        await asyncio.sleep(0.01)
    await second.detach(sandbox)
    told = json.loads((node.root / "keeper.log.GC").read_text())
    assert told["cni.dev/valid-attachments"] == [{"containerID": sandbox, "ifname": "eth0"}]
    await second.service.close()


async def test_no_pod_joins_while_it_runs(node: Node) -> None:
    body = (
        'test "$CNI_COMMAND" = GC && sleep 0.3 && echo GC-DONE x >> $LOG; test "$CNI_COMMAND" = ADD || exit 0;'
        'echo "{\\"ips\\": [{\\"address\\": \\"10.9.9.$(echo $CNI_CONTAINERID | cut -c1)/24\\"}]}"'
    )
    node.configure(node.script("slow", body), version="1.1.0")
    client = Client(await methods.create(node.config))
    pods = [SandboxId(str(number) + new_id()[1:]) for number in (1, 2)]
    await asyncio.gather(*(client.attach(pod) for pod in pods))
    said = [word for word in node.asked("slow") if word != "STATUS"]
    assert said == ["GC", "GC-DONE", "ADD", "ADD"]
    for pod in pods:
        await client.detach(pod)
    await client.service.close()


async def test_a_failure_keeps_nobody_away(node: Node, sandbox: SandboxId, caplog: pytest.LogCaptureFixture) -> None:
    node.configure(node.script("broken", f'test "$CNI_COMMAND" = GC && exit 1; {ANSWER}'), version="1.1.0")
    client = Client(await methods.create(node.config))
    await client.attach(sandbox)
    assert "is not collected: plugin broken: exit status 1" in caplog.text
    await client.detach(sandbox)
    await client.service.close()
