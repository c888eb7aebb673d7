"""`crisp daemon`, `config` and `version`: what needs no daemon."""

from __future__ import annotations

import sys
from argparse import Namespace

from kernel.cli.context import Session


def daemon(session: Session, _: Namespace) -> int:
    """Become the daemon."""
    from kernel.supervisor import spawner

    return spawner.main(session.config_file)


def config(session: Session, _: Namespace) -> int:
    """Show the configuration in force: the file, its drop-ins and the defaults."""
    import msgspec

    from kernel.config.reading import dump

    if session.out.json:
        session.out.document(msgspec.to_builtins(session.config))
    else:
        sys.stdout.write(dump(session.config))
    return 0


def version(session: Session, _: Namespace) -> int:
    """Show the version of this program."""
    from importlib.metadata import version as of

    found = of("crisp")
    if session.out.json:
        session.out.document({"version": found})
    else:
        session.out.line(f"crisp {found}")
    return 0
