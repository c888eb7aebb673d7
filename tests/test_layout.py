"""The layout of the tree, held by machine: names, sizes, module docstrings, and a test for each module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(TREE)
    for folder in ("kernel", "services")
    for path in (TREE / folder).rglob("*.py")
    if "generated" not in path.parts
)
FORBIDDEN = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "tools", "shared", "base"}
MOST_LINES = 600
"""Where a module must be split; from 400 on it is time to look for the noun by which it splits."""

TESTED_ELSEWHERE: dict[str, str] = {
    "kernel/contracts/": "tests/unit/kernel/contracts/test_definition.py",  # declarations: it reads them all
    "kernel/config/": "tests/unit/kernel/config/test_reading.py",  # declarations and their one reader
    "kernel/version.py": "tests/integration/cri/test_status.py",  # a constant: Version has it
    "kernel/log.py": "tests/integration/cri/",  # one formatter: the log of every daemon
    "kernel/bus/client.py": "tests/integration/bus/test_bus.py",  # both sides, facing each other
    "kernel/bus/endpoint.py": "tests/integration/bus/test_bus.py",
    "kernel/bus/worker.py": "tests/integration/bus/test_bus.py",
    "kernel/cli/context.py": "tests/unit/kernel/cli/test_main.py",
    "kernel/cli/command_table.py": "tests/unit/kernel/cli/test_main.py",
    "kernel/cli/exit_status.py": "tests/unit/kernel/cli/test_main.py",
    "kernel/cli/daemon_client.py": "tests/integration/cli/test_command_line.py",  # on a real daemon
    "kernel/cli/spdy_client.py": "tests/integration/cli/test_sessions.py",
    "kernel/cli/commands/streaming.py": "tests/integration/cli/test_sessions.py",
    "kernel/cli/commands/": "tests/integration/cli/test_command_line.py",  # what is pure in one has its own test
    "kernel/stream/wires/spdy/errors.py": "tests/unit/kernel/stream/wires/spdy/test_connection.py",  # declarations
    "kernel/stream/wires/spdy/events.py": "tests/unit/kernel/stream/wires/spdy/test_connection.py",
    "kernel/stream/wires/channel.py": "tests/unit/kernel/stream/sessions/test_descriptor_io.py",  # an interface
    "kernel/stream/methods.py": "tests/integration/stream/test_remote_command.py",  # as the front calls it
    "kernel/stream/sessions/client_session.py": "tests/integration/stream/test_remote_command.py",
    "kernel/stream/sessions/exec_session.py": "tests/integration/stream/test_remote_command.py",
    "kernel/stream/sessions/attach_session.py": "tests/integration/stream/test_remote_command.py",
    "services/image/documents/media_types.py": "tests/unit/services/image/documents/test_manifest.py",  # constants
    "services/runtime/spec/inputs.py": "tests/unit/services/runtime/spec/test_oci_spec.py",  # declarations
    "kernel/host/syscalls.py": "tests/integration/",  # one wrapper per call, no policy: the real parts use each
}
"""A module, or a folder of modules, that needs no test file of its own name: and where it is tested instead."""

TASK_GROUPS = {"group"}
"""Names of an asyncio.TaskGroup, which waits for its tasks and raises their errors."""


def name(module: Path) -> str:
    return str(module)


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_is_named_by_a_word_of_its_field(module: Path) -> None:
    assert not {module.stem, *module.parts} & FORBIDDEN, f"{module}: name it by what it is about"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_opens_with_a_docstring(module: Path) -> None:
    text = (TREE / module).read_text()
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring or not text.strip(), f"{module}: say who runs it, what it may touch and which rules it keeps"
    assert not docstring or len(docstring.splitlines()) <= 40, f"{module}: its docstring is a page"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_is_short_enough_to_read(module: Path) -> None:
    lines = len((TREE / module).read_text().splitlines())
    assert lines <= MOST_LINES, f"{module} has {lines} lines: split it by noun, then by verb"


@pytest.mark.parametrize("module", [path for path in MODULES if path.stem != "__init__"], ids=name)
def test_a_module_has_a_test_of_its_name(module: Path) -> None:
    if any(str(module).startswith(entry) for entry in TESTED_ELSEWHERE):
        return
    wanted = f"test_{module.stem.strip('_')}.py"
    mirrored = TREE / "tests" / "unit" / module.parent / wanted
    integrated = [
        path
        for path in (TREE / "tests" / "integration").rglob(wanted)
        if module.parts[1] in path.parts or path.parent.name == "cri"
    ]
    assert mirrored.exists() or integrated, (
        f"{module}: write {mirrored.relative_to(TREE)}, or tests/integration/{module.parts[1]}/{wanted}, "
        "or say in TESTED_ELSEWHERE where it is tested"
    )


def test_what_is_tested_elsewhere_exists() -> None:
    for entry, test in TESTED_ELSEWHERE.items():
        assert (TREE / entry).exists(), f"TESTED_ELSEWHERE names {entry}, which is gone"
        assert (TREE / test).exists(), f"TESTED_ELSEWHERE says that {test} tests {entry}, and there is none"


def test_every_folder_of_modules_is_a_package() -> None:
    for module in MODULES:
        assert (TREE / module.parent / "__init__.py").exists(), f"{module.parent} has no __init__.py"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_background_task_has_a_parent_and_its_error_a_reader(module: Path) -> None:
    """Tasks are begun by `Tasks.run` (somebody awaits them) or `Tasks.spawn` (their errors are logged and counted)."""
    if module == Path("kernel/host/aio.py"):
        return
    bare = [
        f"line {call.lineno}: {ast.unparse(call.func)}"
        for call in ast.walk(ast.parse((TREE / module).read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and _is_bare_start(call.func)
    ]
    assert not bare, f"{module}: {', '.join(bare)}: use run or spawn of kernel.host.aio.Tasks"


def _is_bare_start(function: ast.Attribute) -> bool:
    receiver = ast.unparse(function.value)
    if function.attr == "create_task":
        return receiver not in TASK_GROUPS
    return function.attr == "ensure_future" or (function.attr == "start" and receiver.endswith("tasks"))
