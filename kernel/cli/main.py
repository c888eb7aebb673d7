"""`crisp`: reads the command line, runs one command, and turns its error into one line and an exit status.

A command's module is imported when it is run, so that `crisp version` does not wait for gRPC.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from kernel.cli.context import Session
from kernel.cli.exits import HELP, Exit, status_of
from kernel.cli.output import Output, clean
from kernel.errors import CrispError

Add = Callable[[argparse.ArgumentParser], object]
Act = Callable[[Session, argparse.Namespace], int]


def _no_arguments(_: argparse.ArgumentParser) -> None:
    """The command takes none."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what is typed, what it does, and the function (`module:name` below kernel.cli) that does it."""

    name: str
    help: str
    act: str
    add: Add = _no_arguments


def _shutdown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="return when it has ended; fail after that time"
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="", help="name of pod and container; one after the image where not given")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="set a variable")
    parser.add_argument(
        "-v", "--volume", action="append", default=[], metavar="HOST:CONTAINER[:ro]", help="mount a path of the host"
    )
    parser.add_argument(
        "-p", "--publish", action="append", default=[], metavar="[ADDRESS:]HOST:CONTAINER[/PROTOCOL]",
        help="forward a port of the host",
    )  # fmt: skip
    parser.add_argument("--host-network", action="store_true", help="use the host's network")
    parser.add_argument("--pid", choices=("container", "pod", "host"), default="container", help="PID namespace")
    parser.add_argument(
        "--handler", default="", metavar="NAME", help="runtime handler; the default one where not given"
    )
    parser.add_argument("-d", "--detach", action="store_true", help="print the ids and return; so without --rm anyway")
    parser.add_argument(
        "--rm", action="store_true", help="wait, show the log, remove the pod, exit with the container's status"
    )
    parser.add_argument("image", metavar="IMAGE", help="name or id; pulled where it is not here")
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="arguments; the image's where none")


def _exec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--interactive", action="store_true", help="give the command this input")
    parser.add_argument("-t", "--tty", action="store_true", help="run it on a terminal; with -i, on this one")
    parser.add_argument("--timeout", type=_seconds, default=0, metavar="SECONDS", help="kill the command after that")
    parser.add_argument(
        "container", metavar="CONTAINER", help="id, beginning of an id, or name; a pod's where it has one"
    )
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its arguments")


def _attach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-stdin", action="store_true", help="only show what it says")
    parser.add_argument("container", metavar="CONTAINER", help="id, beginning of an id, or name")


def _port_forward(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="127.0.0.1", help="where to listen; %(default)s")
    parser.add_argument("pod", metavar="POD", help="id, beginning of an id, or name")
    parser.add_argument(
        "port", metavar="[LOCAL:]REMOTE", nargs="+", help="this host's port and the pod's; `:80` for any free one"
    )


def _logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("-t", "--timestamps", action="store_true", help="show when each line was written")
    parser.add_argument("--tail", type=_seconds, metavar="LINES", help="only the last lines")
    parser.add_argument("container", metavar="CONTAINER", help="id, beginning of an id, or name")


def _pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--username", help="user of the registry; needs --password-stdin")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from stdin")
    parser.add_argument("image", metavar="IMAGE", help="[REGISTRY/]PATH[:TAG][@DIGEST]")


def _save(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="the archive; stdout where not given")
    parser.add_argument(
        "--format", choices=("oci", "docker"), default="oci", help="an OCI layout, or as docker save; %(default)s"
    )
    parser.add_argument("image", metavar="IMAGE", nargs="+", help="name, digest, id or beginning of an id")


def _stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t", "--timeout", type=_seconds, default=10, metavar="SECONDS", help="until SIGKILL; %(default)s"
    )
    parser.add_argument("name", nargs="+", metavar="NAME", help="pod or container: id, beginning of an id, or name")


def _remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="kill what runs; gone already is success")
    parser.add_argument("name", nargs="+", metavar="NAME", help="pod or container: id, beginning of an id, or name")


def _top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print once; so with --json, or where there is no terminal")
    parser.add_argument(
        "-n", "--interval", type=_interval, default=2.0, metavar="SECONDS", help="between two readings; %(default)g"
    )


def _image(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for command in IMAGE_COMMANDS:
        _add(commands, command)


def _argument(*names: str, **settings: str) -> Add:
    """A function that adds one argument."""
    return lambda parser: parser.add_argument(*names, **settings)  # type: ignore[arg-type]  # all settings are texts


def _flag(*names: str, text: str) -> Add:
    return lambda parser: parser.add_argument(*names, action="store_true", help=text)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _interval(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.5 <= found <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.5 to 3600")
    return found


IMAGE_COMMANDS = (
    Command(
        "load", "make images of an archive (OCI layout or docker save)", "images:load",
        _argument("file", metavar="FILE", help="the archive; - for stdin"),
    ),
    Command("ls", "list images", "images:images"),
    Command(
        "check", "read every layer and compare it with its digest", "image_store:check",
        _flag("--repair", text="fetch again what is damaged or missing"),
    ),
    Command(
        "wipe", "remove every image that no container uses", "image_store:wipe",
        _flag("--yes", text="do not ask"),
    ),
    Command("pull", "pull an image from a registry", "images:pull", _pull),
    Command("save", "write images into an archive", "image_save:save", _save),
    Command(
        "rm", "remove images with all their names", "images:remove",
        _argument("image", metavar="IMAGE", nargs="+", help="name, digest, id or beginning of an id"),
    ),
)  # fmt: skip
COMMANDS = (
    Command("status", "whether the node is ready for pods, and why not", "workers:status"),
    Command("workers", "the daemon's processes and their privileges, as /proc has them", "workers:workers"),
    Command("top", "watch CPU, memory and more of the daemon's processes, pods and containers", "top:top", _top),
    Command(
        "restart", "restart one process of the daemon; no container notices", "workers:restart",
        _argument("name", metavar="NAME", help="as `crisp workers` shows it"),
    ),
    Command("reload", "read the configuration again; what is wrong with it changes nothing", "workers:reload"),
    Command("pods", "list pods", "pods:pods"),
    Command(
        "net", "show pods' interfaces, addresses, routes and host ports", "net:net",
        _flag("--check", text="ask the network's plugins as well whether all is as they made it"),
    ),
    Command("ps", "list running containers", "containers:ps", _flag("-a", "--all", text="also those that do not run")),
    Command("images", "list images", "images:images"),
    Command("pull", "pull an image from a registry", "images:pull", _pull),
    Command("run", "run a container in a pod of its own", "run:run", _run),
    Command("exec", "run a command in a container, and exit with its status", "containers:execute", _exec),
    Command("attach", "see and talk to what runs in a container; Ctrl-P Ctrl-Q leaves", "streaming:attach", _attach),
    Command("port-forward", "lead ports of this host into a pod", "port_forward:port_forward", _port_forward),
    Command("logs", "show a container's log", "containers:logs", _logs),
    Command(
        "inspect", "show all about a container, pod or image, as JSON", "containers:inspect",
        _argument("name", metavar="NAME", help="id, beginning of an id, or name"),
    ),
    Command("stop", "stop pods or containers", "pods:stop", _stop),
    Command("rm", "remove pods or containers", "pods:remove", _remove),
    Command("image", "load, save, list, pull, check and remove images", "", _image),
    Command(
        "doctor", "find what the host holds without an owner", "doctor:doctor",
        _flag("--mend", text="take away what may be taken away"),
    ),
    Command("config", "show the configuration in force", "daemon:config"),
    Command("daemon", "be the daemon, in the foreground", "daemon:daemon"),
    Command("shutdown", "end the daemon; containers run on", "workers:shutdown", _shutdown),
    Command("version", "show the version", "daemon:version"),
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
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
    """The options that may stand before and after the command."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of `crisp`; its exit status."""
    options = parser().parse_args(arguments)
    if hasattr(options, "command"):
        options.command = options.command[1:] if options.command[:1] == ["--"] else options.command
        if not options.command and options.act == "containers:execute":
            parser().error("exec: a command is needed")
    session = Session(
        out=Output(json=options.json, terminal=sys.stdout.isatty()),
        config_file=options.config_file,
        socket=options.socket,
    )
    module, _, name = options.act.partition(":")
    try:
        act = cast("Act", getattr(import_module(f"kernel.cli.commands.{module}"), name))
        return int(act(session, options))
    except CrispError as error:
        sys.stderr.write(f"crisp: {clean(str(error))}\n")
        return status_of(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the answer has seen enough; what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except OSError as error:
        sys.stderr.write(f"crisp: {clean(str(error))}\n")
        return Exit.FAILED


if __name__ == "__main__":
    sys.exit(main())
