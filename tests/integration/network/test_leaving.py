"""Pods leave the network whatever is lost: plugins that fail, namespaces and records that are gone or damaged."""

import pytest

from kernel.contracts.definition import Nothing
from kernel.errors import Internal
from kernel.ids import SandboxId
from services.network.links import netns
from tests.integration.network.conftest import Client, FakeCall, Node
from tests.integration.network.test_methods import PASS, reboot


async def test_a_plugin_that_takes_the_namespace_away_leaves_nothing(
    node: Node, client: Client, sandbox: SandboxId
) -> None:
    node.configure(node.script("rude", 'test $CNI_COMMAND = ADD && umount "$CNI_NETNS" && rm "$CNI_NETNS"; exit 1'))
    with pytest.raises(Internal, match="exit status 1"):
        await client.attach(sandbox)
    assert not netns.is_pinned(node.pin(sandbox))
    node.script("rude", "exit 0")
    await client.detach(sandbox)


async def test_a_del_that_fails_can_be_repeated(node: Node, client: Client, sandbox: SandboxId) -> None:
    flaky = f'test "$CNI_COMMAND" = DEL && test ! -e {node.root}/mended && exit 1; ' + PASS
    node.configure(node.bridge_plugin(), node.script("flaky", flaky))
    await client.attach(sandbox)
    with pytest.raises(Internal, match=r"^plugin flaky: exit status 1"):
        await client.detach(sandbox)
    assert (await client.service.inventory(Nothing(), FakeCall())).attachments == (sandbox,)
    (node.root / "mended").touch()
    await client.detach(sandbox)


async def test_an_add_and_a_del_that_fail_keep_the_record_for_detach(
    node: Node, client: Client, sandbox: SandboxId
) -> None:
    node.configure(node.bridge_plugin(), node.script("broken", f"test ! -e {node.root}/mended && exit 1; exit 0"))
    with pytest.raises(Internal, match=r"^plugin broken: exit status 1.*\(ADD"):
        await client.attach(sandbox)
    inventory = await client.service.inventory(Nothing(), FakeCall())
    assert (inventory.namespaces, inventory.attachments) == ((), (sandbox,))
    (node.root / "mended").touch()
    await client.detach(sandbox)


async def test_after_a_reboot_del_runs_without_a_namespace(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure(node.bridge_plugin(), node.script("tell", PASS))
    await client.attach(sandbox)
    await reboot(node, sandbox)
    (node.net_d / "10.conflist").unlink()
    await client.detach(sandbox)
    assert (node.root / "tell.log").read_text().splitlines()[-1].strip() == "DEL"


async def test_a_namespace_that_is_lost_is_stood_in_for(node: Node, client: Client, sandbox: SandboxId) -> None:
    """So that nothing is left of it, rules included (the node's leaks are looked for after each test)."""
    node.configure(node.bridge_plugin(), node.script("tell", PASS))
    await client.attach(sandbox)
    await netns.remove(node.pin(sandbox))
    await client.detach(sandbox)
    assert (node.root / "tell.log").read_text().splitlines()[-1] == f"DEL {node.pin(sandbox)}"


async def test_a_stand_in_that_does_not_help_is_done_without(node: Node, client: Client, sandbox: SandboxId) -> None:
    picky = f'test "$CNI_COMMAND" = DEL && test -n "$CNI_NETNS" && exit 1; {PASS}'
    node.configure(node.bridge_plugin(), node.script("picky", picky))
    await client.attach(sandbox)
    await netns.remove(node.pin(sandbox))
    await client.detach(sandbox)
    assert node.asked("picky") == ["ADD", "DEL", "DEL"]


async def test_a_damaged_record_is_met_with_the_present_network(node: Node, client: Client, sandbox: SandboxId) -> None:
    node.configure()
    await client.attach(sandbox)
    (node.config.paths.network_state / f"{sandbox}.json").write_bytes(b"")
    await client.detach(sandbox)
