"""The verdict over an unpack."""

from __future__ import annotations

import json

import pytest

from kernel.contracts.oci import Descriptor, Layer
from kernel.errors import Corrupt, CrispError, Internal, InvalidInput, ResourceExhausted
from kernel.ids import DiffId, Digest
from services.storage.layers.children import Ended
from services.storage.layers.hash_pump import Pumped
from services.storage.layers.report import judge

DIFF = DiffId(Digest("sha256:" + "1" * 64))
OTHER = Digest("sha256:" + "2" * 64)
LAYER = Layer(blob=Descriptor(media_type="", digest=OTHER, size=1), diff_id=DIFF)
FINE = Ended(returncode=0, answer=b"")
REPORT = json.dumps(
    {
        "bytes": 1,
        "inodes": 2,
        "root": False,
        "opaque": [],
        "implied": [],
        "hiding": [],
        "replaced": False,
        "skeleton": True,
    }
).encode()
MADE = Ended(returncode=0, answer=REPORT)


def pumped(digest: Digest = DIFF, *, over: bool = False) -> Pumped:
    return Pumped(digest=digest, bytes=1, over=over)


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
