"""`crisp daemon`, `config` and `version`, which need no running daemon."""

from __future__ import annotations

import sys
from argparse import Namespace

from kernel.cli.context import Context
from kernel.version import VERSION


def daemon(context: Context, _: Namespace) -> int:
    """Become the daemon."""
    from kernel.supervisor import spawner

    return spawner.main(context.config_file)


def config(context: Context, _: Namespace) -> int:
    """Show the configuration in force: the file, its drop-ins and the defaults."""
    import msgspec

    from kernel.config.reading import dump

    if context.out.json:
        context.out.document(msgspec.to_builtins(context.config))
    else:
        sys.stdout.write(dump(context.config))
    return 0


def version(context: Context, _: Namespace) -> int:
    """Show the version of this program."""
    if context.out.json:
        context.out.document({"version": VERSION})
    else:
        context.out.line(f"crisp {VERSION}")
    return 0
