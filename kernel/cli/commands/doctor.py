"""`crisp doctor`: what the host holds without an owner."""

from __future__ import annotations

from argparse import Namespace

from kernel.cli.context import Session
from kernel.cli.exits import Exit
from kernel.cli.output import Column, Row
from kernel.cri.generated import node_pb2

_SECONDS = 300
COLUMNS = (
    Column("KIND", "kind", lambda kind: str(kind).replace("_", " ")),
    Column("ID", "id"),
    Column("WHY", "why"),
    Column("MENDED", "mended", lambda mended: "yes" if mended else "no"),
)


def doctor(session: Session, options: Namespace) -> Exit:
    """List it, and with --mend take it away."""
    daemon = session.daemon
    found = daemon.call(daemon.node.Doctor, node_pb2.DoctorRequest(mend=options.mend), _SECONDS).findings
    rows = [row(finding) for finding in found]
    if found or session.out.json:
        session.out.table(COLUMNS, rows)
    else:
        session.out.line("everything on this host has an owner")
    for finding in found:
        if finding.error and not session.out.json:
            session.out.note(f"crisp: {finding.kind} {finding.id}: {finding.error}")
    left = [finding for finding in found if not finding.mended]
    if left and not options.mend and not session.out.json:
        session.out.note("`crisp doctor --mend` takes away what may be taken away")
    return Exit.UNHEALTHY if left else Exit.OK


def row(finding: node_pb2.Finding) -> Row:
    """A finding as the table and JSON show it."""
    return {
        "kind": finding.kind,
        "id": finding.id,
        "why": finding.why,
        "mendable": finding.mendable,
        "mended": finding.mended,
        "error": finding.error,
    }
