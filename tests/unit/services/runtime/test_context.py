from __future__ import annotations

from pathlib import Path

from kernel.config.sections import Config
from services.runtime import context


async def test_the_workers_own_folder_is_made_for_root_alone(tmp_path: Path) -> None:
    found = context.make(Config(run=str(tmp_path / "run")))
    assert found.root == tmp_path / "run" / "runtime"
    assert (found.root / "containers").stat().st_mode & 0o777 == 0o700
    assert set(found.runtimes) == {"runc", "crun"}
