"""Image configurations: what real ones say, and what a hostile registry might."""

from __future__ import annotations

import contextlib
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import CrispError, FailedPrecondition, InvalidInput
from kernel.front.documents.image_config import distinct, parse, user_of
from kernel.ids import DiffId, Digest

DIFF = "sha256:" + "a" * 64


def document(config: object = None, **top: object) -> bytes:
    """A configuration with one layer."""
    value = {
        "architecture": "amd64",
        "os": "linux",
        "config": config if config is not None else {},
        "rootfs": {"type": "layers", "diff_ids": [DIFF]},
        **top,
    }
    return json.dumps(value).encode()


def test_takes_what_containers_need() -> None:
    data = document(
        {
            "User": "nginx:101",
            "Env": ["PATH=/bin", "EMPTY="],
            "Entrypoint": ["/start"],
            "Cmd": ["-g", "daemon off;"],
            "WorkingDir": "srv",
            "Volumes": {"/data": {}, "/cache/": {}},
            "StopSignal": "QUIT",
            "Labels": {"a": "b", "A": "c"},
            "ExposedPorts": {"80/tcp": {}},
        },
        history=[{"created_by": "x"}],
    )
    parsed = parse(data, 1)
    assert parsed.id == "sha256:" + hashlib.sha256(data).hexdigest()
    assert parsed.diff_ids == (DIFF,)
    config = parsed.config
    assert (config.user, config.env, config.entrypoint) == ("nginx:101", ("PATH=/bin", "EMPTY="), ("/start",))
    assert (config.cmd, config.working_dir, config.volumes) == (("-g", "daemon off;"), "/srv", ("/cache/", "/data"))
    assert (config.stop_signal, config.labels) == ("SIGQUIT", {"a": "b", "A": "c"})


@pytest.mark.parametrize("absent", [None, {"Env": None, "Cmd": None, "Labels": None, "Volumes": None, "User": None}])
def test_null_is_absent(absent: object) -> None:
    assert parse(document(absent), 1).config.env == ()
    assert parse(document(config=None), 1).config.user == ""


@pytest.mark.parametrize(
    "user",
    ["4294967296", "2147483648", "-1", "0x0", " 0", "+0", "1_000", "１０", "٣", "0:0:0", ":0", "0:", "a b", "\n"],
)
def test_refuses_users(user: str) -> None:
    with pytest.raises(InvalidInput, match=r"config\.User"):
        parse(document({"User": user}), 1)


@pytest.mark.parametrize(
    ("user", "uid", "name"),
    [
        ("", None, ""),
        ("0", 0, ""),
        ("1000:5", 1000, ""),
        ("nobody", None, "nobody"),
        ("nobody:nogroup", None, "nobody"),
    ],
)
def test_user_of(user: str, uid: int | None, name: str) -> None:
    assert user_of(parse(document({"User": user}), 1).config.user) == (uid, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SIGTERM", "SIGTERM"),
        ("term", "SIGTERM"),
        ("9", "SIGKILL"),
        ("SIGRTMIN+3", "SIGRTMIN+3"),
        ("37", "SIGRTMIN+3"),
        ("RTMAX-1", "SIGRTMIN+29"),
        ("", ""),
    ],
)
def test_stop_signal(text: str, name: str) -> None:
    assert parse(document({"StopSignal": text}), 1).config.stop_signal == name


@pytest.mark.parametrize("text", ["SIGKILL;x", "999", "-1", "0", "SIGRTMIN+99", "RTMIN+", "１", "32"])
def test_refuses_stop_signals(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"config\.StopSignal"):
        parse(document({"StopSignal": text}), 1)


@pytest.mark.parametrize(
    "config",
    [
        {"user": "0"},
        {"User": 0},
        {"Env": ["NO_EQUALS"]},
        {"Env": ["=x"]},
        {"Env": ["A=\0"]},
        {"Env": ["A=" + "x" * (128 << 10)]},
        {"Env": "A=b"},
        {"Env": [1]},
        {"Cmd": "sh"},
        {"Entrypoint": {"a": 1}},
        {"WorkingDir": "/proc/self/fd/7"},
        {"WorkingDir": "//proc//self/../1/root"},
        {"WorkingDir": "/x/../proc/1/root"},
        {"Volumes": {"/../../etc": {}}},
        {"Volumes": {"relative": {}}},
        {"Volumes": ["/data"]},
        {"Labels": {"a": 1}},
        {"Labels": {"a" + str(i): "" for i in range(5000)}},
        {"Labels": {str(i): "x" * 100_000 for i in range(20)}},
        {"Labels": {"a": "\ud800"}},
        [],
        "x",
    ],
)
def test_refuses_configs(config: object) -> None:
    with pytest.raises(InvalidInput, match="config"):
        parse(document(config), 1)


@pytest.mark.parametrize(
    "rootfs",
    [
        None,
        {},
        {"type": "layers"},
        {"type": "other", "diff_ids": [DIFF]},
        {"type": "layers", "diff_ids": []},
        {"type": "layers", "diff_ids": [DIFF, DIFF]},
        {"type": "layers", "diff_ids": [DIFF.upper()]},
        {"type": "layers", "diff_ids": ["sha256:../../x"]},
        {"type": "layers", "diff_ids": [1]},
        {"type": "layers", "diff_ids": DIFF},
        {"type": "layers", "diff_ids": [DIFF], "Diff_Ids": []},
    ],
)
def test_refuses_rootfs(rootfs: object) -> None:
    with pytest.raises(InvalidInput):
        parse(document(rootfs=rootfs), 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"os":"linux","os":"linux"}',
        b'{"os":NaN}',
        b'{"x":-Infinity}',
        b"[" * 100_000,
        b'{"x":' * 100_000,
        b'{"x":' + b"1" * 1_000_000 + b"}",
        b'{"x":"' + b"y" * (4 << 20) + b'"}',
        b'{"OS":"linux"}',
    ],
)
def test_refuses_documents(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse(data, 0)


def test_other_systems_are_refused() -> None:
    with pytest.raises(FailedPrecondition, match="windows"):
        parse(document(os="windows"), 1)


def test_too_many_layers() -> None:
    with pytest.raises(InvalidInput, match="501 layers"):
        parse(document(), 501)


def test_of_a_repeated_layer_the_upper_one_counts() -> None:
    a, b, c = (DiffId(Digest("sha256:" + digit * 64)) for digit in "abc")
    assert distinct((a, b, a, c)) == (b, a, c)
    assert distinct(()) == ()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["User", "Env", "config", "rootfs", "Labels", "type", "diff_ids"]), inner)
        ),
    )
)
def test_any_json_is_taken_or_refused(value: object) -> None:
    with contextlib.suppress(CrispError):
        parse(document(value), 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CrispError):
        parse(data, 1)
