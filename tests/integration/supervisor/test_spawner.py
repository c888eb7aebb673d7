"""The fork server as a program: how it ends, and what its children inherit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.harness import host
from tests.harness.daemon import CHECKOUT, Daemon
from tests.integration.supervisor.conftest import Crisp


async def test_it_is_single_threaded_and_forks_leaders_of_sessions(crisp: Crisp) -> None:
    now = await crisp.all_ready()
    assert len(os.listdir(f"/proc/{now['spawner'].pid}/task")) == 1
    for name in ("supervisor", "image", "front"):
        pid = now[name].pid
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        blocked = Path(f"/proc/{pid}/status").read_text().split("SigBlk:\t")[1].split()[0]
        assert int(blocked, 16) == 0


def test_a_wrong_configuration_is_said_and_is_no_crash(tmp_path: Path) -> None:
    file = tmp_path / "crisp.yaml"
    file.write_text("rooot: /x\n")
    code = "import sys; from pathlib import Path; from kernel.supervisor import spawner; sys.exit(spawner.main(Path(sys.argv[1])))"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 78
    assert "rooot" in done.stderr
    assert "line 1" in done.stderr


async def test_a_worker_that_cannot_be_imported_does_not_hold_up_the_others(system_users: None) -> None:
    """With a table whose network row names a module that is not there."""
    mine = Daemon(network=False)
    code = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "from kernel.supervisor.privileges import workers\n"
        "broken = replace(workers.NETWORK, entry='services.network.gone:create')\n"
        "workers.WORKERS = tuple(broken if one is workers.NETWORK else one for one in workers.WORKERS)\n"
        "from kernel.supervisor import spawner\n"
        "sys.exit(spawner.main(Path(sys.argv[1])))\n"
    )
    try:
        with mine.log.open("ab") as log:
            mine.process = subprocess.Popen(
                [sys.executable, "-c", code, str(mine.config_file)], cwd=CHECKOUT, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        asked = Crisp(mine)
        now = await asked.until(
            "the others serve and the broken one is held down",
            lambda now: all(one.state == ("held down" if name == "network" else "ready") for name, one in now.items()),
        )
        assert now["network"].pid == 0
        assert "No module named 'services.network.gone'" in mine.log.read_text()
        await asked.client.close()
        mine.stop()
    finally:
        mine.close()


async def test_without_any_supervisor_the_daemon_still_ends_when_told(system_users: None) -> None:
    """A supervisor that dies at once, again and again: SIGTERM is heard between two attempts."""
    mine = Daemon(network=False)
    code = (
        "import sys; from pathlib import Path; from kernel.supervisor import daemon, spawner\n"
        "daemon.run = lambda *_: 1\n"
        "sys.exit(spawner.main(Path(sys.argv[1])))\n"
    )
    try:
        with mine.log.open("ab") as log:
            mine.process = subprocess.Popen(
                [sys.executable, "-c", code, str(mine.config_file)], cwd=CHECKOUT, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        host.until("it is held back", lambda: "follows after 10.0 s" in mine.log.read_text(), 30)
        mine.process.terminate()
        assert mine.process.wait(5) == 1
    finally:
        mine.close()
