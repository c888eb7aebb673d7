from __future__ import annotations

import os
import struct

from services.runtime.proc_connector import ProcConnector


def event(what: int, thread: int, process: int, status: int) -> bytes:
    return bytes(36) + struct.pack("=IIQIII", what, 0, 0, thread, process, status)


async def test_ends_of_processes_are_noted_and_others_are_not() -> None:
    connector = ProcConnector()
    connector._on_event(event(0x80000000, 5, 5, 7 << 8))
    connector._on_event(event(0x80000000, 6, 6, 9))
    connector._on_event(event(0x80000000, 8, 5, 0))
    connector._on_event(event(1, 5, 5, 0))
    connector._on_event(b"short")
    assert (await connector.exit_code(5), await connector.exit_code(6)) == (7, 137)
    with connector.listen(), connector.listen():
        assert os.getpid() not in connector._codes
    assert connector._codes == {}
