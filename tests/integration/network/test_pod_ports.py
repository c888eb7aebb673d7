"""Host ports of pods follow their records and the configuration, also after a death of the worker."""

import json
from pathlib import Path

import msgspec
import pytest

from kernel.contracts.definition import Nothing
from kernel.errors import AlreadyExists, Internal, InvalidInput
from kernel.ids import SandboxId, new_id
from services.network import methods
from services.network.documents import hostport
from tests.integration.network.conftest import Client, Node, run
from tests.integration.network.test_forwarding import loopback_taken, mapping, rules, tables


async def test_rules_that_cannot_be_made_leave_nothing(
    node: Node, client: Client, sandbox: SandboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.configure(node.bridge_plugin())
    monkeypatch.setattr(hostport, "replace_table", lambda *_: "nonsense")
    with pytest.raises(Internal, match=r"host ports: nft exit status 1: .*syntax error"):
        await client.attach(sandbox, mapping(8081))
    assert (node.lease_files(), node.pin(sandbox).exists(), tables()) == ([], False, [])
    monkeypatch.undo()
    await client.attach(sandbox, mapping(8081))
    await client.detach(sandbox)


async def test_a_port_that_another_pod_has_is_refused_by_name(node: Node, client: Client) -> None:
    node.configure(node.bridge_plugin())
    first, second = SandboxId(new_id()), SandboxId(new_id())
    await client.attach(first, mapping(8081, host_ip="127.0.0.1"))
    with pytest.raises(
        AlreadyExists, match=rf"port_mappings\[1\]: host port 8081/tcp belongs to pod test/web.*{first[:13]}"
    ):
        await client.attach(second, mapping(8082), mapping(8081))
    with pytest.raises(InvalidInput, match=r"port_mappings\[1\]: host port 8082/tcp is mapped twice"):
        await client.attach(second, mapping(8082), mapping(8082, container_port=1))
    assert not node.pin(second).exists()
    await client.attach(second, mapping(8081, "udp"), mapping(8081, host_ip=f"{node.subnet}.1"), mapping(8082))
    later = Client(await methods.create(node.config))  # another life of the worker knows who has what
    third = SandboxId(new_id())
    with pytest.raises(AlreadyExists, match="belongs to pod test/web"):
        await later.attach(third, mapping(8082))
    await later.detach(second)
    await later.attach(third, mapping(8082))
    for sandbox in (first, third):
        await later.detach(sandbox)
    await later.service.close()


async def test_the_table_is_what_the_records_say_after_a_death(node: Node, client: Client) -> None:
    """Rules of a pod that went meanwhile go; those of one that stays come back, also after somebody flushed all."""
    node.configure(node.bridge_plugin())
    stays, goes = SandboxId(new_id()), SandboxId(new_id())
    for sandbox, port in ((stays, 8081), (goes, 8082)):
        await client.attach(sandbox, mapping(port))
    record = node.config.paths.network_state / f"{goes}.json"
    kept = record.read_bytes()
    record.unlink()
    later = Client(await methods.create(node.config))
    await later.attach(stays)  # attached already: its ports are in force when the answer comes
    assert ("8081" in rules(), "8082" in rules()) == (True, False)
    run("nft", "delete", *tables()[0].split())
    third = SandboxId(new_id())
    await later.attach(third, mapping(8083))
    assert ("8081" in rules(), "8083" in rules()) == (True, True)
    record.write_bytes(kept)
    for sandbox in (stays, goes, third):
        await later.detach(sandbox)
    assert tables() == []
    await later.service.close()


async def test_a_worker_killed_before_it_told_the_interface(node: Node, client: Client) -> None:
    """The record names the interface before it is told: the next life tells it, and takes it back in the end."""
    node.configure(node.bridge_plugin())
    stays, goes = SandboxId(new_id()), SandboxId(new_id())
    for sandbox, port in ((stays, 8081), (goes, 8082)):
        await client.attach(sandbox, mapping(port))
    setting = Path(f"/proc/sys/net/ipv4/conf/{node.bridge}/route_localnet")
    setting.write_text("0")
    later = Client(await methods.create(node.config))
    await later.attach(stays)
    assert loopback_taken(node) == "1"
    await later.detach(stays)
    assert loopback_taken(node) == "1"
    await later.detach(goes)
    assert loopback_taken(node) == "0"
    third = SandboxId(new_id())
    setting.write_text("1")  # somebody else's wish stays
    await later.attach(third, mapping(8083))
    await later.detach(third)
    assert loopback_taken(node) == "1"
    await later.service.close()


async def test_a_table_without_a_pod_goes_with_the_next_life(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(node.bridge_plugin())
    await client.attach(sandbox, mapping(8081))
    record = node.config.paths.network_state / f"{sandbox}.json"
    record.write_bytes(msgspec.json.encode(msgspec.json.decode(record.read_bytes()) | {"undoing": True}))
    later = Client(await methods.create(node.config))
    await later.detach(sandbox)
    assert (tables(), loopback_taken(node)) == ([], "0")
    assert (await later.service.check_ready(Nothing(), None)).ready  # type: ignore[arg-type]
    await later.service.close()


@pytest.mark.parametrize("who", ["cni", "crisp"])
async def test_who_forwards_is_a_matter_of_configuration(node: Node, who: str, sandbox: SandboxId) -> None:
    """A plugin and crisp never both do."""
    network = msgspec.structs.replace(node.config.network, host_ports=who)
    node.configure(
        node.bridge_plugin(),
        node.script("portmap", 'cat > "$LOG.$CNI_COMMAND"; sed \'s/.*"prevResult"://; s/}$//\' "$LOG.$CNI_COMMAND"')
        | {"capabilities": {"portMappings": True}},
    )
    client = Client(await methods.create(msgspec.structs.replace(node.config, network=network)))
    await client.attach(sandbox, mapping(8081))
    told = json.loads((node.root / "portmap.log.ADD").read_text())
    assert ("runtimeConfig" in told, bool(tables())) == ((True, False) if who == "cni" else (False, True))
    await client.detach(sandbox)
    await client.service.close()
