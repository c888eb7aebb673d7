"""The commands of `crisp`: names, arguments, and the function of each. Nothing of a command is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

Add = Callable[[argparse.ArgumentParser], object]


def _no_arguments(_: argparse.ArgumentParser) -> None:
    """Add no arguments."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, what it does, and the function (`module:name` in kernel.cli.commands) that does it."""

    name: str
    help: str
    act: str = ""
    """The function's name; empty for a command that only has subcommands."""
    add: Add = _no_arguments
    below: tuple[Command, ...] = ()
    """Its subcommands."""


def _shutdown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="return when it has ended; fail after that time"
    )


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="", help="name of pod and container; named after the image if not given")
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
    parser.add_argument("--handler", default="", metavar="NAME", help="runtime handler; the default one if not given")
    parser.add_argument("-d", "--detach", action="store_true", help="print the ids and return, as without --rm")
    parser.add_argument(
        "--rm", action="store_true", help="wait, show the log, remove the pod, exit with the container's status"
    )
    parser.add_argument("image", metavar="IMAGE", help="name or id; pulled if it is not here")
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="arguments; the image's if none")


def _exec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--interactive", action="store_true", help="give the command this input")
    parser.add_argument("-t", "--tty", action="store_true", help="run it on a terminal; with -i, on this one")
    parser.add_argument("--timeout", type=_seconds, default=0, metavar="SECONDS", help="kill the command after that")
    parser.add_argument(
        "container", metavar="CONTAINER", help="id, beginning of an id, or name; a pod's if it has one container"
    )
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its arguments")


def _attach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-stdin", action="store_true", help="only show its output")
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
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="the archive; stdout if not given")
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
    parser.add_argument("-f", "--force", action="store_true", help="kill what runs; succeed if it is gone already")
    parser.add_argument("name", nargs="+", metavar="NAME", help="pod or container: id, beginning of an id, or name")


def _top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print once; so with --json, or if there is no terminal")
    parser.add_argument(
        "-n", "--interval", type=_interval, default=2.0, metavar="SECONDS", help="between two readings; %(default)g"
    )


def _argument(*names: str, **settings: str) -> Add:
    """Return a function that adds one argument."""
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
    Command("status", "whether the node is ready for pods, and the reason if not", "workers:status"),
    Command("workers", "the daemon's processes and their privileges, from /proc", "workers:workers"),
    Command("top", "watch CPU, memory and more of the daemon's processes, pods and containers", "top:top", _top),
    Command(
        "restart", "restart one process of the daemon; no container notices", "workers:restart",
        _argument("name", metavar="NAME", help="as `crisp workers` shows it"),
    ),
    Command("reload", "read the configuration again; a wrong one changes nothing", "workers:reload"),
    Command("pods", "list pods", "pods:pods"),
    Command(
        "net", "show pods' interfaces, addresses, routes and host ports", "net:net",
        _flag("--check", text="also ask the network's plugins whether all is as they made it"),
    ),
    Command("ps", "list running containers", "containers:ps", _flag("-a", "--all", text="also those that do not run")),
    Command("images", "list images", "images:images"),
    Command("pull", "pull an image from a registry", "images:pull", _pull),
    Command("run", "run a container in a pod of its own", "run:run", _run),
    Command("exec", "run a command in a container, and exit with its status", "containers:execute", _exec),
    Command("attach", "attach to a running container; Ctrl-P Ctrl-Q leaves", "streaming:attach", _attach),
    Command("port-forward", "forward ports of this host into a pod", "port_forward:port_forward", _port_forward),
    Command("logs", "show a container's log", "containers:logs", _logs),
    Command(
        "inspect", "show all about a container, pod or image, as JSON", "containers:inspect",
        _argument("name", metavar="NAME", help="id, beginning of an id, or name"),
    ),
    Command("stop", "stop pods or containers", "pods:stop", _stop),
    Command("rm", "remove pods or containers", "pods:remove", _remove),
    Command("image", "load, save, list, pull, check and remove images", below=IMAGE_COMMANDS),
    Command(
        "doctor", "find what is left on the host without an owner", "doctor:doctor",
        _flag("--mend", text="remove what may be removed"),
    ),
    Command("config", "show the configuration in force", "daemon:config"),
    Command("daemon", "be the daemon, in the foreground", "daemon:daemon"),
    Command("shutdown", "end the daemon; containers run on", "workers:shutdown", _shutdown),
    Command("version", "show the version", "daemon:version"),
)  # fmt: skip
