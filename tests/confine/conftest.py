"""What a worker can and cannot do: by root only, for a confined process starts as root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import host
from tests.harness.daemon import Daemon

USERS = ("crisp", "crisp-image", "crisp-stream")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "confine" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="needs root: run deploy/test"))


@pytest.fixture(scope="session")
def system_users() -> None:
    """The users that the unprivileged processes run as; deploy/up makes the same ones."""
    for user in USERS:
        if not any(line.startswith(f"{user}:") for line in Path("/etc/passwd").read_text().splitlines()):
            host.run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", user)


@pytest.fixture(scope="module")
def own_daemon(system_users: None) -> Iterator[Daemon]:
    """A daemon without registry and pods."""
    mine = Daemon()
    try:
        mine.start(wait=False)
        yield mine
        mine.stop()
    finally:
        mine.close()
