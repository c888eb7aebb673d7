"""Readiness for the service manager."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from kernel.supervisor.processes import notify


def test_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        notify.ready(42)
        assert end.recv(100) == b"READY=1\nMAINPID=42\n"
        notify.replaced(43)
        assert end.recv(100) == b"MAINPID=43\n"
    assert notify.environment() == {"NOTIFY_SOCKET": str(tmp_path / "notify")}


def test_there_may_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready(42)
    assert notify.environment() == {}
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with caplog.at_level(logging.WARNING):
        notify.ready(42)
    assert "cannot be told" in caplog.text
