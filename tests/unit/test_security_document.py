"""The privilege table in SECURITY.md is the one in the code: written out here from its rows, and looked for there."""

from __future__ import annotations

from pathlib import Path

from kernel.config.sections import Config
from kernel.supervisor.privileges.workers import PROCESSES, Filter, Landlock, Net, Row, Sockets

DOCUMENT = Path(__file__).resolve().parents[2] / "SECURITY.md"
COLUMNS = ("process", "user", "capabilities", "seccomp refuses", "Landlock", "network", "memory", "called by")
GIB = 1 << 30


def capabilities(row: Row) -> str:
    """The effective set, and whether programs that the process starts can have more."""
    if row.capabilities is None:
        return "all that the daemon has"
    names = ", ".join(sorted(row.capabilities)) or "none"
    return f"{names}; children may have all" if row.bounding else names


def seccomp(rules: Filter | None) -> str:
    if rules is None:
        return "nothing"
    sockets = {Sockets.UNIX: "sockets but unix", Sockets.INTERNET: "sockets but unix and IP", Sockets.ANY: ""}
    parts = (
        "" if rules.execve else "programs",
        "" if rules.mounts else "mounts",
        "" if rules.namespaces else "namespaces",
        sockets[rules.sockets],
    )
    return ", ".join((*filter(None, parts), "the list below"))


def landlock(rules: Landlock | None) -> str:
    if rules is None:
        return "none"
    tcp = {(False, False): "no TCP", (True, False): "TCP out", (False, True): "TCP in", (True, True): "any TCP"}
    return f"{'its own files' if rules.files else 'any file'}, {tcp[rules.connect, rules.bind]}"


def cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.user(Config()),
        capabilities(row),
        seccomp(row.seccomp),
        landlock(row.landlock),
        {Net.HOST: "the host's", Net.EMPTY: "empty"}[row.net],
        f"{row.memory // GIB} GiB" if row.memory else "no limit",
        ", ".join(row.callers) or "nobody",
    )


def line(values: tuple[str, ...]) -> str:
    return f"| {' | '.join(values)} |\n"


def test_the_table_of_privileges_is_the_codes() -> None:
    wanted = line(COLUMNS) + "|" + "---|" * len(COLUMNS) + "\n" + "".join(line(cells(row)) for row in PROCESSES)
    assert wanted in DOCUMENT.read_text(), f"SECURITY.md: replace its table of privileges by this one:\n\n{wanted}"


def test_what_has_a_filter_cannot_gain_privileges() -> None:
    """The document says so in one sentence for all, beside the table."""
    assert all(row.no_new_privs == (row.seccomp is not None) == (not row.bounding) for row in PROCESSES)
