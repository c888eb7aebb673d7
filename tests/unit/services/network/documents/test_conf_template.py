"""A template takes the node's CIDRs as values, and nothing else."""

import json

import pytest

from kernel.errors import FailedPrecondition, InvalidInput
from services.network.documents import conf_template

BOTH = ("10.7.0.0/24", "fd00:7::/64")


def template(**ipam: object) -> bytes:
    plugin = {"type": "bridge", "bridge": "b0", "ipam": {"type": "host-local", **ipam}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}).encode()


def test_places_are_filled() -> None:
    given = template(ranges="{{ .PodCIDRRanges }}", routes="{{.Routes}}", note="{{.PodCIDR}}", other="x {{.PodCIDR}}")
    name, made = conf_template.render(given, "t", BOTH)
    assert name == "10-crisp-pods.conflist"
    ipam = json.loads(made)["plugins"][0]["ipam"]
    assert ipam == {
        "type": "host-local",
        "ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        "note": "10.7.0.0/24",
        "other": "x {{.PodCIDR}}",
    }


def test_a_single_plugin_stays_one() -> None:
    given = json.dumps({"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "x": "{{.PodCIDR}}"}).encode()
    name, made = conf_template.render(given, "t", BOTH[:1])
    assert (name, json.loads(made)["x"]) == ("10-crisp-pods.conf", "10.7.0.0/24")


@pytest.mark.parametrize("given", [b"", b"{{range .PodCIDRRanges}}", b"[]", b'{"plugins": []}'])
def test_what_does_not_become_a_configuration_is_refused(given: bytes) -> None:
    with pytest.raises(FailedPrecondition, match=r"network.config_template /etc/x"):
        conf_template.render(given, "/etc/x", BOTH)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match="pod_cidrs"):
        conf_template.render(template(), "t", ('10.7.0.0/24", "type": "evil',))
