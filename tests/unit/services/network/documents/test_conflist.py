"""Network configurations are checked before anything is run or named after them."""

import json

import pytest

from kernel.errors import InvalidInput
from services.network.documents import conflist
from services.network.documents.conflist import Network

BRIDGE = {"type": "bridge", "bridge": "crisp0", "ipam": {"type": "host-local", "dataDir": "/leases"}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True, "dns": False}}


def listed(**changes: object) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [BRIDGE, PORTMAP], **changes}).encode()


def test_a_list_is_read() -> None:
    network = conflist.parse(listed(), "10-x.conflist")
    assert (network.name, network.cni_version) == ("pods", "1.0.0")
    assert [plugin.type for plugin in network.plugins] == ["bridge", "portmap"]
    assert network.plugins[1].capabilities == ("portMappings",)
    assert network.binaries() == ("bridge", "portmap", "host-local")
    assert network.lease_dirs() == ("/leases",)


def test_a_single_plugin_is_a_list_of_one() -> None:
    network = conflist.parse(json.dumps({"cniVersion": "0.3.1", "name": "one", **BRIDGE}).encode(), "10-x.conf")
    assert [plugin.type for plugin in network.plugins] == ["bridge"]


def test_the_newest_common_version_is_spoken() -> None:
    network = conflist.parse(listed(cniVersion="0.4.0", cniVersions=["0.4.0", "1.0.0", "9.0.0"]), "x.conflist")
    assert network.cni_version == "1.0.0"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a JSON object"),
        (b'{"cniVersion": "1.0.0", "na', "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b" " * (conflist.MAX_BYTES + 1), "larger than"),
        (listed(name="../x"), "name: '../x' is not a name"),
        (listed(name=""), "name: '' is not a name"),
        (listed(name=7), "name"),
        (listed(name="a\nb"), "name"),
        (listed(cniVersion="2.0.0"), "cniVersion: '2.0.0'"),
        (listed(cniVersion="0.2.0"), "cniVersion: '0.2.0'"),
        (listed(cniVersion=None), "cniVersion"),
        (listed(plugins=[]), "plugins: must be a list of 1 to"),
        (listed(plugins=[BRIDGE] * 100), "plugins: must be a list of 1 to"),
        (listed(plugins={}), "plugins"),
        (listed(plugins=["bridge"]), r"plugins\[0\]: must be an object"),
        (listed(plugins=[BRIDGE, {"type": "../../sbin/reboot"}]), r"plugins\[1\].type: '../../sbin/reboot'"),
        (listed(plugins=[{"bridge": "x"}]), r"plugins\[0\].type"),
        (listed(plugins=[{"type": "bridge", "ipam": {"type": "../x"}}]), r"plugins\[0\].ipam.type"),
        (listed(plugins=[{"type": "bridge", "ipam": []}]), r"plugins\[0\].ipam"),
        (listed(plugins=[{"type": "a", "capabilities": {"dns": "yes"}}]), r"plugins\[0\].capabilities"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        conflist.parse(data, "/etc/cni/net.d/10-x.conflist")


def test_a_list_without_plugins_is_not_taken_for_a_plugin() -> None:
    with pytest.raises(InvalidInput, match="plugins"):
        conflist.parse(json.dumps({"cniVersion": "1.0.0", "name": "x", "type": "bridge"}).encode(), "x.conflist")


def test_the_first_network_is_the_default_unless_named() -> None:
    first, second = (Network(name=name, cni_version="1.0.0", plugins=()) for name in ("first", "second"))
    assert conflist.choose([first, second], "") is first
    assert conflist.choose([first, second], "second") is second
    assert conflist.choose([first, second], "third") is None
    assert conflist.choose([], "") is None


def test_a_plugin_gets_only_the_capabilities_that_it_declares() -> None:
    network = conflist.parse(listed(), "x.conflist")
    values: dict[str, object] = {"portMappings": [{"hostPort": 1}], "dns": {"servers": ["1.1.1.1"]}}
    bridge, portmap = (json.loads(conflist.stdin(network, plugin, values, None)) for plugin in network.plugins)
    assert bridge == {**BRIDGE, "name": "pods", "cniVersion": "1.0.0"}
    assert portmap["runtimeConfig"] == {"portMappings": [{"hostPort": 1}]}
    assert "prevResult" not in portmap


def test_the_result_before_is_handed_on() -> None:
    network = conflist.parse(listed(), "x.conflist")
    assert json.loads(conflist.stdin(network, network.plugins[1], {}, {"ips": []}))["prevResult"] == {"ips": []}
