"""The linters as tests: what CI would refuse, a plain run of pytest refuses.

A tool that is missing is a skip on a laptop and a failure in CI (where the variable CI is set).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
SHELL_SCRIPTS = [
    ".ci/run", "deploy/check", "deploy/up", "deploy/down", "deploy/test", "deploy/fresh", "deploy/steps.sh",
]  # fmt: skip


def run(tool: str, *arguments: str) -> None:
    """Run a tool in the checkout; its own words are the failure."""
    beside = Path(sys.executable).parent / tool
    program = str(beside) if beside.exists() else shutil.which(tool)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(f"{tool} is not installed: deploy/test installs it")
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([program, *arguments], cwd=TREE, capture_output=True, text=True, timeout=170, check=False)
    if done.returncode:
        pytest.fail(f"{tool} {' '.join(arguments)}\n{done.stdout}{done.stderr}", pytrace=False)


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", ".")


def test_ruff_would_format_nothing() -> None:
    run("ruff", "format", "--check", ".")


def test_mypy_finds_nothing() -> None:
    run("mypy")


def test_imports_go_one_way() -> None:
    run("lint-imports")


def test_codespell_finds_nothing() -> None:
    run("codespell")


def test_shellcheck_finds_nothing() -> None:
    run("shellcheck", "--external-sources", *SHELL_SCRIPTS)


def test_the_scripts_can_be_run() -> None:
    for script in SHELL_SCRIPTS:
        assert script.endswith(".sh") or os.access(TREE / script, os.X_OK), f"chmod +x {script}"
