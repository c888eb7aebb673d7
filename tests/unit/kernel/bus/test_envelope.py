"""What the wire takes and refuses."""

from __future__ import annotations

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.bus.codec import MAX_HEADER, MAX_TEXT
from kernel.bus.envelope import (
    FRAMES,
    MARK,
    Answer,
    Body,
    Cancel,
    Failed,
    Failure,
    Progress,
    Request,
    error_of,
    pack,
    pack_failure,
    unpack_for_caller,
    unpack_for_worker,
)
from kernel.contracts.storage import MountRequest
from kernel.errors import KINDS, CrispError, Internal, InvalidInput
from kernel.ids import ContainerId, DiffId, Digest

ID = bytes(range(16))
MOUNT = MountRequest(container_id=ContainerId("c"), layers=(DiffId(Digest("d")),))
REQUEST = Request(id=ID, method="mount", deadline_ns=5, trace="t")


def test_a_message_comes_through_whole() -> None:
    header, body = unpack_for_worker(pack(REQUEST, MOUNT))
    assert header == REQUEST
    assert Body(MountRequest).decode(body) == MOUNT
    for message in (Answer(id=ID), Progress(id=ID), Failed(id=ID)):
        assert unpack_for_caller(pack(message, MOUNT)) == (message, body)


def test_a_request_at_all_its_limits_fits_into_a_header() -> None:
    longest = Request(id=ID, method="m" * MAX_TEXT, deadline_ns=2**63 - 1, trace="t" * MAX_TEXT)
    _, header, _ = pack(longest)
    assert len(header) == 201 < MAX_HEADER
    assert unpack_for_worker(pack(longest))[0] == longest


def test_each_side_refuses_what_the_other_should_send() -> None:
    with pytest.raises(InvalidInput, match="type 'answer', not one of request, cancel"):
        unpack_for_worker(pack(Answer(id=ID)))
    with pytest.raises(InvalidInput, match="type 'cancel', not one of answer, progress, failed"):
        unpack_for_caller(pack(Cancel(id=ID)))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ID[1:]},
        {"id": ID.hex()[:16]},
        {"id": "AAECAwQFBgcICQoLDA0ODw=="},
        {"id": None},
        {"method": ""},
        {"method": b"mount"},
        {"method": 1},
        {"deadline_ns": 5.0},
        {"deadline_ns": float("nan")},
        {"deadline_ns": "5"},
        {"deadline_ns": True},
        {"deadline_ns": -1},
        {"deadline_ns": 2**63},
        {"deadline_ns": {}},
        {"deadline_ns": []},
        {"trace": None},
        {"trace": {"trace": {}}},
        {"type": b"request"},
        {"type": []},
        {"type": {}},
        {"type": "told"},
        {"body": None},
        {"more": 1},
        {b"id": ID},
    ],
    ids=str,
)
def test_a_field_that_does_not_fit_is_refused(fields: dict[str, object]) -> None:
    sound = {"type": "request", "id": ID, "method": "mount", "deadline_ns": 5, "trace": "t"}
    assert unpack_for_worker([MARK, msgpack.packb(sound), b""])[0] == REQUEST
    with pytest.raises(InvalidInput, match="header"):
        unpack_for_worker([MARK, msgpack.packb(sound | fields), b""])


@pytest.mark.parametrize("missing", ["type", "id", "method", "deadline_ns", "trace"])
def test_a_field_that_is_missing_is_refused(missing: str) -> None:
    sound = {"type": "request", "id": ID, "method": "mount", "deadline_ns": 5, "trace": "t"}
    del sound[missing]
    with pytest.raises(InvalidInput, match="header"):
        unpack_for_worker([MARK, msgpack.packb(sound), b""])


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "0 frames instead of 3"),
        ([MARK], "1 frames"),
        ([MARK, b"\x80"], "2 frames"),
        ([MARK, b"\x80", b"", b""], "more than 3 frames"),
        ([b"crisp/1", b"\x80", b""], "not of crisp/2: it begins with b'crisp/1'"),
        ([b"x" * 999, b"\x80", b""], "begins with b'x{16}'$"),
        ([*pack(Cancel(id=ID))[:2], b"\x80"], "cancel has a body of 1 bytes"),
    ],
    ids=str,
)
def test_frames_that_are_no_message_are_refused(frames: list[bytes], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        unpack_for_worker(frames)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_error_travels(kind: type[CrispError]) -> None:
    header, body = unpack_for_caller(pack_failure(ID, kind("it failed", hint="do this")))
    assert header == Failed(id=ID)
    error = error_of(body)
    assert type(error) is kind
    assert str(error) == "it failed; do this"


def test_an_unknown_error_is_internal() -> None:
    assert type(error_of(msgspec.msgpack.encode(Failure(kind="Novel", message="m")))) is Internal


def test_an_error_that_does_not_read_is_refused() -> None:
    with pytest.raises(InvalidInput, match="body"):
        error_of(b"\x80")


@given(st.lists(st.binary(max_size=300), max_size=FRAMES + 1), st.booleans())
@example([b"\x83\xa4type\xa7request\xaa" + bytes(9) + b"\x80", b""], True)
def test_no_frames_do_more_than_be_refused(frames: list[bytes], marked: bool) -> None:
    for unpack in (unpack_for_worker, unpack_for_caller):
        with pytest.raises(InvalidInput):
            unpack([MARK, *frames] if marked else frames)


@given(st.dictionaries(st.sampled_from(["type", "id", "method", "deadline_ns", "trace", "x"]), st.one_of(
    st.sampled_from(["request", "cancel", "answer", "progress", "failed"]), st.binary(min_size=15, max_size=17),
    st.integers(-(2**63), 2**64 - 1), st.floats(), st.none(), st.text(max_size=70), st.just({}), st.just([]),
)))  # fmt: skip
def test_a_header_is_what_its_class_says_or_refused(fields: dict[str, object]) -> None:
    for unpack in (unpack_for_worker, unpack_for_caller):
        try:
            header, _ = unpack([MARK, msgpack.packb(fields), b""])
        except InvalidInput:
            continue
        assert msgspec.to_builtins(header, builtin_types=(bytes,)) == fields


@given(st.binary(max_size=300))
def test_no_body_does_more_than_be_refused(data: bytes) -> None:
    decoder = Body(MountRequest)
    try:
        decoder.decode(data)
    except InvalidInput:
        return
    assert decoder.decode(data) == decoder.decode(data)
