"""`crisp image check` and `crisp image wipe`: the images on disk as a whole."""

from __future__ import annotations

import sys
from argparse import Namespace

from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.cli.output import Column, Row, short_id
from kernel.cri.generated import node_pb2
from kernel.errors import FailedPrecondition

_WIPE_SECONDS = 600
_GOOD = ("whole", "unproven")
CHECKED = (
    Column("LAYER", "layer", short_id),
    Column("STATE", "state"),
    Column("IMAGES", "images", lambda images: ", ".join(images) if isinstance(images, list) else ""),
    Column("WHY", "why"),
)
WIPED = (
    Column("NAME", "name"),
    Column("ID", "id", short_id),
    Column("REMOVED", "removed", lambda removed: "yes" if removed else "no"),
    Column("WHY", "why"),
)


def check(context: Context, options: Namespace) -> Exit:
    """Verify every layer; with --repair, download the damaged and missing ones again."""
    daemon = context.daemon
    request = node_pb2.CheckImagesRequest(repair=options.repair)
    rows = [row(finding) for finding in daemon.stream(daemon.node.CheckImages, request)]
    context.out.table(CHECKED, rows)
    bad = [one for one in rows if one["state"] not in (*_GOOD, "repaired")]
    if bad and not options.repair and not context.out.json:
        context.out.note("`crisp image check --repair` fetches what is damaged or missing again")
    return Exit.UNHEALTHY if bad else Exit.OK


def row(finding: node_pb2.CheckImagesResponse) -> Row:
    """Return a finding's row for the table and JSON."""
    reason = f"{finding.why}; not repaired: {finding.error}" if finding.error else finding.why
    return {
        "layer": finding.layer,
        "state": "repaired" if finding.repaired else finding.state,
        "images": list(finding.images),
        "why": reason,
    }


def wipe(context: Context, options: Namespace) -> Exit:
    """Remove every image that no container uses. Only this command removes unused images all at once."""
    if not options.yes and not _agreed():
        raise FailedPrecondition("nothing was removed", hint="answer yes, or give --yes")
    daemon = context.daemon
    reply = daemon.call(daemon.node.WipeImages, node_pb2.WipeImagesRequest(), _WIPE_SECONDS)
    rows: list[Row] = [
        {"id": image.id, "name": image.name, "removed": image.removed, "why": image.why} for image in reply.images
    ]
    context.out.table(WIPED, rows)
    if reply.left_overs and not context.out.json:
        context.out.note(f"{reply.left_overs} left-overs were removed as well")
    return Exit.OK if all(image.removed for image in reply.images) else Exit.FAILED


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stderr.write("Every image that no container uses will be removed. Go on? [yes/no] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
