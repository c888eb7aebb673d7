"""The entry point of `crisp`: parses the command line, runs one command, and turns its error into one line and an exit
status.

A command's module is imported when it is run, so that `crisp version` does not wait for gRPC.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from kernel.cli.command_table import COMMANDS, Command
from kernel.cli.context import Context
from kernel.cli.exit_status import HELP, Exit, status_of
from kernel.cli.output import Output, clean
from kernel.errors import CrispError

Act = Callable[[Context, argparse.Namespace], int]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="crisp",
        description="Run pods and containers, and look after the daemon that does.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_global(top, config_file=None, socket=None, json=False)
    commands = top.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for command in COMMANDS:
        _add(commands, command)
    return top


def _add_global(parser: argparse.ArgumentParser, **defaults: object) -> None:
    """Add the options that may stand before and after the command."""
    parser.set_defaults(**defaults)
    missing = argparse.SUPPRESS
    parser.add_argument(
        "--config", dest="config_file", type=Path, metavar="FILE", default=missing, help="configuration file"
    )
    parser.add_argument("--socket", type=Path, metavar="PATH", default=missing, help="the daemon's CRI socket")
    parser.add_argument("--json", action="store_true", default=missing, help="answer in JSON, for programs")


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], command: Command) -> None:
    one = commands.add_parser(
        command.name,
        help=command.help,
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_global(one)
    command.add(one)
    if command.act:
        one.set_defaults(act=command.act)
    if command.below:
        below = one.add_subparsers(metavar="COMMAND", required=True, title="commands")
        for each in command.below:
            _add(below, each)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `crisp` and return its exit status."""
    options = parser().parse_args(arguments)
    if hasattr(options, "command"):
        options.command = options.command[1:] if options.command[:1] == ["--"] else options.command
        if not options.command and options.act == "containers:execute":
            parser().error("exec: a command is needed")
    context = Context(
        out=Output(json=options.json, terminal=sys.stdout.isatty()),
        config_file=options.config_file,
        socket=options.socket,
    )
    module, _, name = options.act.partition(":")
    try:
        act = cast("Act", getattr(import_module(f"kernel.cli.commands.{module}"), name))
        return int(act(context, options))
    except CrispError as error:
        sys.stderr.write(f"crisp: {clean(str(error))}\n")
        return status_of(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the answer has closed the pipe. What is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except OSError as error:
        sys.stderr.write(f"crisp: {clean(str(error))}\n")
        return Exit.FAILED


if __name__ == "__main__":
    sys.exit(main())
