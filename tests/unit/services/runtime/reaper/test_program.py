"""The reaper is a small program of its own: what it may import, and that it leaves who started it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from services.runtime.reaper import program

TREE = Path(program.__file__).parents[3]


def test_it_imports_no_third_partys_module() -> None:
    listed = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         f"import sys; sys.path.insert(0, {str(TREE)!r}); import {program.__name__}; print(list(sys.modules))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = {name.partition(".")[0] for name in ast.literal_eval(listed.stdout)}
    assert modules - {"kernel", "services"} <= sys.stdlib_module_names | {"__main__", "sitecustomize"}
    assert not {"asyncio", "pathlib", "logging"} & modules - {"pathlib"}, "it stays small"
