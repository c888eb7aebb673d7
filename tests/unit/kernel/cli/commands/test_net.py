"""`crisp net`: what people and programs see of a pod's network."""

from __future__ import annotations

from kernel.cli.commands.net import COLUMNS, document, rows
from kernel.cli.output import plain
from kernel.contracts.network import Interface, PodNetwork, Route
from kernel.ids import SandboxId

POD = PodNetwork(
    sandbox_id=SandboxId("ab" * 32),
    pod="shop/web",
    network="crisp",
    ips=("10.85.0.5",),
    interfaces=(
        Interface(name="lo", mac="", mtu=65536, addresses=("127.0.0.1/8",)),
        Interface(name="eth0", mac="aa:bb", mtu=1500, addresses=("10.85.0.5/16", "fe80::1/64")),
    ),
    routes=(
        Route(to="0.0.0.0/0", via="10.85.0.1", interface="eth0"),
        Route(to="10.85.0.0/16", via="", interface="eth0"),
        Route(to="fe80::/64", via="", interface="eth0"),
    ),
    host_ports=("8080/tcp -> 80",),
    problem="its host ports are not forwarded",
)


def test_people_see_a_line_for_each_thing() -> None:
    lines = [line.split(maxsplit=3) for line in plain(COLUMNS, list(rows(POD))).splitlines()[1:]]
    assert {tuple(line[:3]) for line in lines} == {("abababababab" + "a", "shop/web", "crisp")}
    assert [line[3] for line in lines] == [
        "interface  eth0 10.85.0.5/16 fe80::1/64 aa:bb mtu 1500",
        "route      0.0.0.0/0 via 10.85.0.1 dev eth0",
        "route      10.85.0.0/16 dev eth0",
        "host port  8080/tcp -> 80",
        "problem    its host ports are not forwarded",
    ]


def test_programs_see_all() -> None:
    found = document(POD)
    assert (found["id"], found["pod"], found["ips"]) == (POD.sandbox_id, "shop/web", ("10.85.0.5",))
    assert [interface["name"] for interface in found["interfaces"]] == ["lo", "eth0"]  # type: ignore[attr-defined]
