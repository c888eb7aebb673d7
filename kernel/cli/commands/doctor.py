"""`crisp doctor`: things that are left on the host without an owner."""

from __future__ import annotations

from argparse import Namespace

from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.cli.output import Column, Row
from kernel.cri.generated import node_pb2

_SECONDS = 300
COLUMNS = (
    Column("KIND", "kind", lambda kind: str(kind).replace("_", " ")),
    Column("ID", "id"),
    Column("WHY", "why"),
    Column("MENDED", "mended", lambda mended: "yes" if mended else "no"),
)


def doctor(context: Context, options: Namespace) -> Exit:
    """List the things that are left without an owner; with --mend remove them."""
    daemon = context.daemon
    found = daemon.call(daemon.node.Doctor, node_pb2.DoctorRequest(mend=options.mend), _SECONDS).findings
    rows = [row(finding) for finding in found]
    if found or context.out.json:
        context.out.table(COLUMNS, rows)
    else:
        context.out.line("everything on this host has an owner")
    for finding in found:
        if finding.error and not context.out.json:
            context.out.note(f"crisp: {finding.kind} {finding.id}: {finding.error}")
    left = [finding for finding in found if not finding.mended]
    if left and not options.mend and not context.out.json:
        context.out.note("`crisp doctor --mend` removes what may be removed")
    return Exit.UNHEALTHY if left else Exit.OK


def row(finding: node_pb2.Finding) -> Row:
    """Return a finding's row for the table and JSON."""
    return {
        "kind": finding.kind,
        "id": finding.id,
        "why": finding.why,
        "mendable": finding.mendable,
        "mended": finding.mended,
        "error": finding.error,
    }
