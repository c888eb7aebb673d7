"""The result of an unpack, from the worker's hash and the answers of its two children. Pure."""

from __future__ import annotations

import msgspec

from kernel.contracts.oci import Layer
from kernel.errors import Corrupt, Internal, ResourceExhausted
from services.storage.confined import answer, refusal
from services.storage.layers.children import Ended
from services.storage.layers.hash_pump import Pumped


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer of the child that made a layer's files, as `tar.tally.Report` has it."""

    bytes: int
    inodes: int
    root: bool
    opaque: tuple[str, ...]
    implied: tuple[str, ...]
    hiding: tuple[str, ...]
    replaced: bool
    skeleton: bool
    """Whether the skeleton is whole, so that with the files it gives the tar."""


def judge(layer: Layer, pumped: Pumped, inflated: Ended, untarred: Ended) -> Report:
    """Return the report of the child that made the files, or raise the error that counts most.

    That is too many bytes, then a broken blob, then a wrong digest, and only then an error of the tar's reader.
    """
    blob = layer.blob.digest
    if pumped.over:
        raise ResourceExhausted(
            f"blob {blob} gives more bytes than a layer may take",
            hint="storage.max_layer_bytes and storage.max_layer_ratio set the limit",
        )
    if inflated.returncode == answer.REFUSED:
        raise Corrupt(f"blob {blob} cannot be decompressed: {refusal.last_words(inflated.answer)}")
    if inflated.returncode:
        raise Internal(f"the child that decompresses: {refusal.failure(inflated.returncode, inflated.answer)}")
    if pumped.digest != layer.diff_id:
        raise Corrupt(f"blob {blob} gives the tar {pumped.digest}, the image's configuration names {layer.diff_id}")
    try:
        if untarred.returncode == answer.REFUSED:
            raise refusal.decode(untarred.answer).to_error(f"layer {layer.diff_id}")
        if untarred.returncode:
            raise Internal(f"the child that reads the tar: {refusal.failure(untarred.returncode, untarred.answer)}")
        return msgspec.json.decode(untarred.answer, type=Report)
    except msgspec.DecodeError as error:
        raise Internal(f"the child that reads the tar: its answer cannot be decoded: {error}") from error
