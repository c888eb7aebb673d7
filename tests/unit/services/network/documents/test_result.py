"""Plugins' answers become addresses only where they are well-formed."""

import json

import pytest

from kernel.errors import Internal
from services.network.documents import result

INTERFACES = [{"name": "crisp0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/x"}]


def answer(**fields: object) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", **fields}).encode()


def one(address: str, **fields: object) -> bytes:
    return answer(ips=[{"address": address, **fields}])


def test_addresses_keep_the_plugins_order_and_lose_their_prefix() -> None:
    ips = [{"address": "fd00:0::2/64", "interface": 2}, {"address": "10.1.2.3/24", "interface": 2}]
    parsed = result.parse(answer(interfaces=INTERFACES, ips=ips), "1.0.0")
    assert result.addresses(parsed) == ("fd00::2", "10.1.2.3")


def test_the_hosts_own_interfaces_do_not_count() -> None:
    ips = [{"address": "10.1.2.1/24", "interface": 0}, {"address": "10.1.2.3/24", "interface": 2}]
    assert result.addresses(result.parse(answer(interfaces=INTERFACES, ips=ips), "1.0.0")) == ("10.1.2.3",)


@pytest.mark.parametrize("fields", [{}, {"ips": []}, {"ips": None}])
def test_a_pod_without_an_address_is_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(Internal, match="no address"):
        result.addresses(result.parse(answer(**fields), "1.0.0"))


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0"])
def test_older_versions_name_the_family(version: str) -> None:
    old = answer(cniVersion=version, ips=[{"version": "4", "address": "10.1.2.3/24"}])
    assert result.parse(old, version)["ips"] == [{"version": "4", "address": "10.1.2.3/24"}]
    assert result.parse(old, "1.0.0") == {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]}
    assert result.parse(one("fd00::1/64"), version)["ips"] == [{"version": "6", "address": "fd00::1/64"}]


def test_a_missing_version_is_the_networks() -> None:
    assert result.parse(b'{"ips": [{"address": "10.1.2.3/24"}]}', "1.1.0")["cniVersion"] == "1.1.0"


def test_fields_that_we_do_not_know_are_handed_on() -> None:
    assert result.parse(answer(vendor={"a": 1}, ips=[]), "1.0.0")["vendor"] == {"a": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        answer(cniVersion="7.0.0"),
        answer(ips={}),
        answer(ips=["10.1.2.3/24"]),
        answer(ips=[{"address": f"10.1.{n >> 8}.{n & 255}/16"} for n in range(100_000)]),
        answer(ips=[{}]),
        one("999.1.1.1/24"),
        one("10.1.2.3/33"),
        one("10.1.2.3"),
        one("10.1.2.3/24\n"),
        one("fe80::1%eth0/64"),
        one("127.0.0.1/8"),
        one("::1/128"),
        one("0.0.0.0/0"),
        one("224.0.0.1/4"),
        one("10.1.2.3/24", gateway="10.1.2"),
        one("10.1.2.3/24", interface=3),
        one("10.1.2.3/24", interface=-1),
        one("10.1.2.3/24", interface="eth0"),
        answer(interfaces=[{"name": 7}]),
        answer(routes=[{"dst": "nowhere"}]),
        answer(dns={"nameservers": ["1.1.1.1\nsearch evil"]}),
    ],
)
def test_malformed_results_are_refused(data: bytes) -> None:
    with pytest.raises(Internal, match="malformed result"):
        result.parse(data, "1.0.0")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"cniVersion": "1.0.0", "code": 11, "msg": "try later", "details": "busy"}', "try later; busy"),
        (b'{"code": 7, "msg": "bad network"}', "bad network"),
        (b'{"code": 100}', "error code 100 without a message"),
    ],
)
def test_error_objects_are_told(data: bytes, said: str) -> None:
    failure = result.failure(data)
    assert failure is not None
    assert failure.text() == said


@pytest.mark.parametrize("data", [b"", b"{}", b'{"code": 0}', b'{"code": "x"}', b"garbage", b"[" * 100_000])
def test_other_answers_are_no_error_objects(data: bytes) -> None:
    assert result.failure(data) is None
