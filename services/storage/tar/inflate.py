"""The child that decompresses a blob: from standard input to standard output, with nothing else in reach.

Started by the storage worker as `python -I -m services.storage.tar.inflate FORMAT FILTER`. The decompressors are C code
fed with bytes from a registry, so they run with no capability, an empty root and a filter of system calls. Their output
is not trusted: the worker hashes it and compares the hash with the diff id.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, cast

import zstandard
from isal import igzip, isal_zlib

from services.storage.confined import answer, confine

GZIP = "gzip"
ZSTD = "zstd"
MAX_WINDOW = 128 << 20
"""Most bytes of memory that a zstd frame may need for its window."""
_CHUNK = 1 << 20
_ISAL_ERROR = cast("type[Exception]", isal_zlib.IsalError)  # the stubs take it for an instance
_WRONG = (OSError, EOFError, ValueError, _ISAL_ERROR, zstandard.ZstdError, MemoryError)


def _gunzip(source: IO[bytes]) -> Iterator[bytes]:
    with igzip.IGzipFile(fileobj=source, mode="rb") as stream:  # type: ignore[no-untyped-call]
        while chunk := stream.read(_CHUNK):
            yield chunk


def _unzstd(source: IO[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    with decompressor.stream_reader(source, read_size=_CHUNK, read_across_frames=True) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


_FORMATS: dict[str, Callable[[IO[bytes]], Iterator[bytes]]] = {GZIP: _gunzip, ZSTD: _unzstd}


def inflate(source: IO[bytes], output: int, form: str) -> str:
    """Decompress all of `source` into the descriptor `output`. Return the fault in it; empty if there is none."""
    try:
        for chunk in _FORMATS[form](source):
            answer.write_all(output, chunk)
    except BrokenPipeError:
        return ""  # the reader has ended, and gives the reason itself
    except _WRONG as error:
        return f"not {form}: {error}"
    return ""


def main() -> None:
    """Run the child from its start to its end: on REFUSED the reason is on standard error, as text."""
    form, seccomp = sys.argv[1], bytes.fromhex(sys.argv[2])
    confine.enter(empty=True)
    confine.drop(0, seccomp)
    with open(0, "rb", buffering=0) as source:
        wrong = inflate(source, 1, form)
    if wrong:
        os.write(2, wrong.encode(errors="replace"))
    os._exit(answer.REFUSED if wrong else 0)


if __name__ == "__main__":
    main()
