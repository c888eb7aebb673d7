"""GnuPG keys for the tests of verdicts, made once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.signing import Gpg


@pytest.fixture(scope="package")
def gpg() -> Iterator[Gpg]:
    folder = Path(tempfile.mkdtemp(prefix="ctgpg-", dir="/tmp"))  # its agent's socket has a short path
    made = Gpg(folder / "home")
    try:
        for name, algorithm in (("alice", "ed25519"), ("bob", "rsa2048")):
            made.key(name, algorithm)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)
