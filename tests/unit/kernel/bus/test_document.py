"""docs/bus.md is held to the implementation: its tables, its limits and the bytes of its examples."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgpack
import msgspec
import pytest

from kernel.bus import codec, envelope
from kernel.bus.envelope import MARK, Body, Failure, ToCaller, ToWorker, pack, unpack_for_caller, unpack_for_worker
from kernel.contracts.supervisor import RESTART, WATCH_HEALTH

ROOT = Path(__file__).resolve().parents[4]
DOCUMENT = (ROOT / "docs" / "bus.md").read_text()
KINDS = {
    kind.__struct_config__.tag: kind
    for kind in (envelope.Request, envelope.Cancel, envelope.Answer, envelope.Progress, envelope.Failed)
}
BODIES: dict[str, object] = {
    "request": RESTART.request,
    "answer": RESTART.reply,
    "progress": WATCH_HEALTH.progress,
    "failed": Failure,
}


def section(title: str) -> str:
    """The text below a heading, up to the next one of its level."""
    level = title.partition(" ")[0]
    return DOCUMENT.split(f"\n{title}\n")[1].split(f"\n{level} ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of the tables in `text`."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def unpack(kind: str, frames: list[bytes]) -> tuple[ToWorker | ToCaller, bytes]:
    """A message of either direction."""
    return unpack_for_worker(frames) if kind in ("request", "cancel") else unpack_for_caller(frames)


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_what_the_bus_sends_and_reads(kind: str) -> None:
    block = re.search(r"```\n(.*?)```", section(f"### {kind}"), re.DOTALL)
    assert block, f"docs/bus.md has no example of {kind}"
    shown, _, dump = block[1].partition("\n\n")
    header_text, body_text = re.sub(r"h'([0-9a-f]*)'", lambda found: repr(bytes.fromhex(found[1])), shown).splitlines()
    header = ast.literal_eval(header_text)
    body = None if body_text == "empty" else ast.literal_eval(body_text)
    mark_hex, header_hex, body_hex = re.split(r"^(?:mark|header|body)", dump, flags=re.MULTILINE)[1:]
    frames = [bytes.fromhex(frame) for frame in (mark_hex, header_hex, body_hex)]

    assert frames[0] == MARK
    assert msgpack.unpackb(frames[1]) == header
    assert (msgpack.unpackb(frames[2]) if frames[2] else None) == body
    message, packed = unpack(kind, frames)
    assert type(message) is KINDS[kind]
    decoded = Body(BODIES[kind]).decode(packed) if packed else None
    assert list(pack(message, decoded)) == frames


def test_the_table_of_messages_is_complete() -> None:
    table = {cells[0].strip("`"): cells for cells in rows(section("## A message")) if cells[0].strip("`") in KINDS}
    assert table.keys() == KINDS.keys()
    for kind, cells in table.items():
        assert re.findall(r"`(\w+)`", cells[2]) == list(KINDS[kind].__struct_fields__)
        assert cells[1] == ("to the worker" if kind in ("request", "cancel") else "to the caller")
    assert re.findall(r"`(\w+)`", table["failed"][3]) == list(Failure.__struct_fields__)
    described = {name for cells in rows(section("## A message")) for name in re.findall(r"`(\w+)`", cells[0])}
    assert {field for kind in KINDS.values() for field in kind.__struct_fields__} <= described
    assert set(Failure.__struct_fields__) <= described


def test_the_bounds_of_the_fields_are_those_of_the_classes() -> None:
    stated = {cells[0]: cells[1] for cells in rows(section("## A message"))}
    fields = {field.encode_name: field.type for field in msgspec.inspect.type_info(envelope.Request).fields}  # type: ignore[attr-defined]
    assert stated["`id`"] == f"bin, {fields['id'].min_length} bytes"
    assert fields["id"].min_length == fields["id"].max_length == codec.MAX_BYTES
    assert stated["`method`"] == f"str, {fields['method'].min_length} to {fields['method'].max_length} bytes"
    assert stated["`trace`"] == f"str, 0 to {fields['trace'].max_length} bytes"
    assert stated["`deadline_ns`"] == f"int, {fields['deadline_ns'].ge} to 2^63-1"
    assert fields["deadline_ns"].le == 2**63 - 1


def test_the_limits_are_those_of_the_code() -> None:
    stated = {cells[0]: cells[1] for cells in rows(section("## Limits"))}
    assert stated == {
        "what": "at most",
        "---": "---",
        "frames of a message": str(envelope.FRAMES),
        "bytes of a frame": str(envelope.MAX_FRAME),
        "bytes of a header": str(codec.MAX_HEADER),
        "fields of a header": str(codec.MAX_FIELDS),
        "bytes of a text in a header": str(codec.MAX_TEXT),
        "bytes of a binary value in a header": str(codec.MAX_BYTES),
        "elements of an array in a header": "0",
        "bytes of an extension type in a header": "0",
        "depth of a header": "1",
    }


def test_the_protocol_is_named_by_its_mark() -> None:
    assert DOCUMENT.startswith(f"# The bus, protocol {MARK.decode()}\n")
    assert f"`{MARK.decode()}`" in section("## A message")
