"""Media types, the hash between the children, and the verdict over an unpack."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading

import pytest

from kernel.contracts.oci import Descriptor, Layer
from kernel.errors import Corrupt, CrispError, Internal, InvalidInput, ResourceExhausted
from kernel.ids import DiffId, Digest
from services.storage.layer import Ended, Pumped, judge, plan_format, pump

DIFF = DiffId(Digest("sha256:" + "1" * 64))
OTHER = Digest("sha256:" + "2" * 64)
LAYER = Layer(blob=Descriptor(media_type="", digest=OTHER, size=1), diff_id=DIFF)
FINE = Ended(returncode=0, answer=b"")
REPORT = json.dumps({"bytes": 1, "inodes": 2, "root": False, "opaque": []}).encode()
MADE = Ended(returncode=0, answer=REPORT)


def pumped(digest: Digest = DIFF, *, over: bool = False) -> Pumped:
    return Pumped(digest=digest, bytes=1, over=over)


@pytest.mark.parametrize(
    ("media_type", "form"),
    [
        ("application/vnd.oci.image.layer.v1.tar", ""),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
    ],
)
def test_media_types(media_type: str, form: str) -> None:
    assert plan_format(media_type) == form


@pytest.mark.parametrize("media_type", ["", "application/octet-stream", "application/vnd.oci.image.layer.v1.tar+xz"])
def test_other_media_types_are_refused(media_type: str) -> None:
    with pytest.raises(InvalidInput, match="media type"):
        plan_format(media_type)


def test_a_right_layer() -> None:
    assert judge(LAYER, pumped(), FINE, MADE).inodes == 2


REFUSED = Ended(returncode=3, answer=json.dumps({"error": "InvalidInput", "message": "m", "hint": ""}).encode())


@pytest.mark.parametrize(
    ("seen", "inflated", "untarred", "kind"),
    [
        (pumped(OTHER), FINE, MADE, Corrupt),
        (pumped(OTHER), FINE, REFUSED, Corrupt),  # a lie about the digest is the better reason
        (pumped(), Ended(returncode=3, answer=b"bad"), MADE, Corrupt),
        (pumped(), Ended(returncode=-9, answer=b""), MADE, Internal),
        (pumped(), Ended(returncode=1, answer=b"Traceback"), MADE, Internal),
        (pumped(), FINE, REFUSED, InvalidInput),
        (pumped(), FINE, Ended(returncode=-11, answer=b""), Internal),
        (pumped(), FINE, Ended(returncode=0, answer=b"{}"), Internal),
        (pumped(), FINE, Ended(returncode=0, answer=b""), Internal),
        (pumped(OTHER, over=True), FINE, REFUSED, ResourceExhausted),
    ],
)
def test_verdicts(seen: Pumped, inflated: Ended, untarred: Ended, kind: type[CrispError]) -> None:
    with pytest.raises(CrispError) as caught:
        judge(LAYER, seen, inflated, untarred)
    assert type(caught.value) is kind


def run_pump(data: bytes, limit: int, *, reader: bool = True) -> tuple[Pumped, bytes]:
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()

    def feed() -> None:
        with open(write_in, "wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
            file.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    got = bytearray()
    drainer = threading.Thread(target=lambda: got.extend(open(read_out, "rb").read()))  # noqa: SIM115
    if reader:
        drainer.start()
    else:
        os.close(read_out)
    result = pump(read_in, write_out, limit)
    feeder.join()
    if reader:
        drainer.join()
    return result, bytes(got)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_hash_is_of_the_bytes_that_are_handed_on() -> None:
    data = os.urandom(300_000)
    result, got = run_pump(data, 1 << 20)
    assert got == data
    assert result == Pumped(digest=Digest(f"sha256:{hashlib.sha256(data).hexdigest()}"), bytes=300_000, over=False)


def test_hashing_goes_on_without_a_reader() -> None:
    data = os.urandom(200_000)
    result, _ = run_pump(data, 1 << 20, reader=False)
    assert result.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_more_than_allowed_is_not_read() -> None:
    assert run_pump(bytes(5 << 20), 1 << 20)[0].over
