"""A storage service of its own process, for tests that kill it: `python unpacking.py ROOT BLOB DIFF_ID`."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from kernel.bus.worker import Call
from kernel.config.sections import Config
from kernel.contracts.oci import Descriptor, Layer
from kernel.contracts.storage import UnpackRequest
from kernel.ids import DiffId, Digest
from services.storage.methods import create


async def main() -> None:
    root, blob, diff_id = sys.argv[1:]
    service = await create(Config(root=root, run=f"{root}/run"))
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    layer = Layer(blob=Descriptor(media_type=media_type, digest=Digest(blob), size=0), diff_id=DiffId(Digest(diff_id)))
    await service.unpack(UnpackRequest(layer=layer), cast("Call", None))


if __name__ == "__main__":
    asyncio.run(main())
