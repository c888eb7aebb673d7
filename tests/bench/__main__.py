"""The figures that crisp promises, measured beside the raw parts in one run: `python -m tests.bench`.

By root. Makes a registry and a daemon of its own; touches no other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from deploy.demo_image import busybox_image
from tests.bench.rows import QUICK, ROWS, Bench, Row, Sizes
from tests.harness.daemon import Daemon
from tests.harness.registry import Registry


def machine() -> str:
    """The machine in one line."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return f"{os.cpu_count()} x {model}, {memory} GB, Linux {platform.release()}, Python {platform.python_version()}"


def text(row: Row) -> str:
    """A row as a line of the README's table."""
    sign = "at least " if row.at_least else ""
    verdict = "" if row.met else " **over**"
    unit = "" if row.unit == "x" else f" {row.unit}"
    times = " x" if row.unit == "x" else ""
    return (
        f"| {row.what} | {sign}{row.budget:g}{unit}{times} | {row.measured:.2f}{unit}{times}{verdict} | {row.detail} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, for a look")
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="only these rows")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    folder = Path(tempfile.mkdtemp(prefix="ctbench-", dir="/tmp"))
    registry = Registry(folder)
    daemon: Daemon | None = None
    rows: list[Row] = []
    try:
        registry.start()
        registry.push(busybox_image(), "busybox", "latest")
        location = f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n'
        daemon = Daemon(location, log_level="warning")
        daemon.start()
        reference = f"{registry.address}/busybox:latest"
        daemon.cri.pull(reference)
        bench = Bench(daemon, registry, reference, sizes)
        print(f"{machine()}\n\n| what | budget | measured | |\n|---|---|---|---|", flush=True)
        for name in arguments.rows or ROWS:
            for row in getattr(bench, name)():
                rows.append(row)
                print(text(row), flush=True)
        daemon.stop()
    finally:
        if daemon:
            daemon.close()
        registry.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        result = {
            "machine": machine(),
            "quick": arguments.quick,
            "rows": [asdict(row) | {"met": row.met} for row in rows],
        }
        arguments.json.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
