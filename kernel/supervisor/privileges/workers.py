"""The privilege table: one row per process, and for every grant a comment with the reason. Pure.

`kernel.supervisor.privileges.enforce` applies a row to a process; tests compare `/proc` with the rows both ways.

One rule shapes the table: seccomp filters, no_new_privs, Landlock domains and the bounding set are inherited and cannot
be revoked. So the process whose children become containers (runtime) has none of the first three and a whole bounding
set, and so has every process above it (spawner, supervisor). Those three parse nothing from outside.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel.config.sections import Config
from kernel.errors import NotFound

CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "SETPCAP": 8, "LINUX_IMMUTABLE": 9, "NET_BIND_SERVICE": 10, "NET_BROADCAST": 11, "NET_ADMIN": 12, "NET_RAW": 13,
    "IPC_LOCK": 14, "IPC_OWNER": 15, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_CHROOT": 18, "SYS_PTRACE": 19,
    "SYS_PACCT": 20, "SYS_ADMIN": 21, "SYS_BOOT": 22, "SYS_NICE": 23, "SYS_RESOURCE": 24, "SYS_TIME": 25,
    "SYS_TTY_CONFIG": 26, "MKNOD": 27, "LEASE": 28, "AUDIT_WRITE": 29, "AUDIT_CONTROL": 30, "SETFCAP": 31,
    "MAC_OVERRIDE": 32, "MAC_ADMIN": 33, "SYSLOG": 34, "WAKE_ALARM": 35, "BLOCK_SUSPEND": 36, "AUDIT_READ": 37,
    "PERFMON": 38, "BPF": 39, "CHECKPOINT_RESTORE": 40,
}  # fmt: skip
"""Numbers of linux/capability.h."""


class Net(enum.Enum):
    """The network namespace of a process."""

    HOST = "host"
    EMPTY = "empty"
    """An own namespace, in which there is only a loopback interface that is down."""


class Sockets(enum.Enum):
    """The socket families that a seccomp filter permits."""

    UNIX = frozenset({1})
    """AF_UNIX, for the bus."""
    INTERNET = frozenset({1, 2, 10})
    """AF_UNIX, AF_INET and AF_INET6. Not AF_NETLINK: getaddrinfo(3) would read the host's own addresses by it, and
    works without if it is refused."""
    ANY = frozenset[int]()
    """No restriction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A seccomp filter: calls that are refused with EPERM in this process and in all that it starts."""

    sockets: Sockets
    execve: bool
    """Whether programs may be started."""
    mounts: bool
    """Whether the mount calls may be used."""
    namespaces: bool
    """Whether namespaces may be made and entered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The part of the file system that a process may use."""

    readable: Callable[[Config], tuple[Path, ...]]
    """Paths that may be read, in addition to Python's own modules."""
    writable: Callable[[Config], tuple[Path, ...]]
    """Paths that may be written; they may be read too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landlock:
    """A Landlock domain (landlock(7)). A process in it can signal or trace no process outside, and reach no abstract
    socket outside."""

    files: Files | None
    """The paths that may be used. If None, user and capabilities decide alone; a process in a domain with paths cannot
    mount."""
    connect: bool
    """Whether TCP connections may be made."""
    bind: bool = False
    """Whether TCP ports may be bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One process and its privileges."""

    name: str
    contract: str
    """Module of its contract, which has a CONTRACT; empty if it is not on the bus."""
    entry: str
    """`module:function` of its entry point; empty for the spawner and the supervisor, which are not forked by row."""
    user: Callable[[Config], str]
    capabilities: frozenset[str] | None
    """The permitted and effective set. None: all that the daemon was started with."""
    bounding: bool
    """Whether the bounding set stays whole; if not, it is cut to `capabilities`."""
    no_new_privs: bool
    seccomp: Filter | None
    landlock: Landlock | None
    net: Net
    memory: int | None
    """Bytes of its own that it, and each program it starts, may have (RLIMIT_DATA: all that is private and writable,
    stacks of threads included). An allocation beyond it fails in this process, and ends it at worst. None: no limit."""
    callers: tuple[str, ...]
    """Processes that may call it: the permissions of its folder on the bus enforce this. Root (the supervisor, the
    command line) always may."""

    @property
    def capability_mask(self) -> int | None:
        """The capabilities as /proc shows them; None if all are kept."""
        return None if self.capabilities is None else sum(1 << CAPABILITIES[name] for name in self.capabilities)


_GIB = 1 << 30


def _root(_: Config) -> str:
    return "root"


def _front_user(config: Config) -> str:
    return config.user


def _stream_user(config: Config) -> str:
    return config.stream.user


def _image_user(config: Config) -> str:
    return config.image.user


_LIBRARIES = ("/usr", "/lib", "/lib64", "/opt", "/etc/ld.so.cache", "/etc/localtime")
"""Shared libraries and Python's modules: some are loaded late (codecs, the C library's name services)."""
_RESOLVER = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services",
    "/etc/protocols", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/mnt/wsl/resolv.conf",
)  # fmt: skip
"""Files by which the C library resolves host names; resolv.conf is often a link to a file below /run."""
_KERNEL = (
    "/proc/sys/kernel/random",
    "/proc/sys/net/core/somaxconn",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
)
"""Files by which gRPC and the C library choose their sizes."""
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/random")


def _paths(*groups: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(Path(path) for group in groups for path in group)


def _front_reads(config: Config) -> tuple[Path, ...]:
    # Files that define short names, by their folder: to Landlock a file that was replaced is another one.
    return (*_paths(_LIBRARIES, _KERNEL), *_around(config.image.registries_conf))


def _front_writes(config: Config) -> tuple[Path, ...]:
    # It binds the CRI socket in one folder, and its socket on the bus in the other.
    return (*_paths(_DEVICES), config.paths.front_socket.parent, config.paths.bus_dir("front"))


def _image_reads(config: Config) -> tuple[Path, ...]:
    image = config.image
    settings = (*_around(image.registries_conf), *_around(image.global_auth_file), Path(image.certs_dir))
    settings += (Path(image.namespaced_auth_dir),) if image.namespaced_auth_dir else ()
    # Configuration of the places of signatures, and signatures on this host.
    settings += (Path(image.registries_d), *map(Path, image.lookaside_dirs))
    trust = ("/etc/containers", "/etc/ssl", "/etc/pki", "/etc/ca-certificates")
    # Archives to load lie in `incoming`; registries, their certificates and the host's certificate authorities.
    return (*_paths(_LIBRARIES, _RESOLVER, _KERNEL, trust), *settings, config.paths.incoming)


_LARGE = _paths(("/var/lib/kubelet", "/etc/kubernetes", "/var/lib/crisp", "/run/crisp"))
"""Folders that contain more than settings: secrets of pods, keys of the node, crisp's own."""


def _around(file: str) -> tuple[Path, ...]:
    """Return the folder of a file, for a Landlock rule: a rule for the file itself ends when the file is replaced.

    If that is a folder of the whole system, return the file and its drop-ins instead: once they are replaced, the
    worker must be restarted to read them."""
    folder = Path(file).parent
    if not file or len(folder.parts) < 3 or folder in _LARGE:
        return (Path(file), Path(f"{file}.d")) if file else ()
    return (folder,)


def _image_writes(config: Config) -> tuple[Path, ...]:
    # Blobs, whole and partial, and its own socket's folder on the bus.
    paths = config.paths
    return (*_paths(_DEVICES), paths.root / "image", paths.bus_dir("image"))


def _stream_reads(config: Config) -> tuple[Path, ...]:
    section = config.stream
    # Its certificate is replaced by renaming, so the rule is for the folder.
    certificates = tuple(Path(path).parent for path in (section.tls_cert, section.tls_key, section.tls_ca) if path)
    return (*_paths(_LIBRARIES, _KERNEL), *certificates)


def _stream_writes(config: Config) -> tuple[Path, ...]:
    # The socket on which descriptors arrive and the file with the port's number, and its own socket's folder on the
    # bus.
    return (*_paths(_DEVICES), config.paths.stream_dir, config.paths.bus_dir("stream"))


SUPERVISOR = Row(
    name="supervisor",
    contract="kernel.contracts.supervisor",
    entry="",
    user=_root,
    capabilities=frozenset({
        "KILL",  # ends and restarts workers of other users
        "CHOWN",  # gives each worker its folders
        "FOWNER",  # sets the mode of folders that belong to workers
        "DAC_OVERRIDE",  # calls workers whose folder on the bus is not root's
    }),
    bounding=True,  # it starts a new spawner by exec when the old one dies, and that one needs everything
    no_new_privs=False,  # as above
    seccomp=None,  # as above: a filter would reach the containers
    landlock=None,  # as above
    net=Net.EMPTY,  # only unix sockets; it keeps a descriptor of the host's namespace for a new spawner
    memory=None,  # it starts a new spawner, and so on: a limit would reach the containers
    callers=("front",),  # commits and health; the command line is root
)  # fmt: skip

SPAWNER = Row(
    name="spawner",
    contract="",
    entry="",
    user=_root,
    capabilities=None,  # the runtime worker can get no capability that the spawner lacks
    bounding=True,
    no_new_privs=False,
    seccomp=None,
    landlock=None,
    net=Net.HOST,  # the network, image and runtime workers need the host's namespace
    memory=None,  # as above
    callers=(),
)

FRONT = Row(
    name="front",
    contract="kernel.contracts.front",
    entry="kernel.front.server:create",
    user=_front_user,
    capabilities=frozenset(),
    bounding=False,
    no_new_privs=True,
    seccomp=Filter(sockets=Sockets.UNIX, execve=False, mounts=False, namespaces=False),
    landlock=Landlock(files=Files(readable=_front_reads, writable=_front_writes), connect=False),
    net=Net.EMPTY,  # the CRI socket and the bus are unix sockets with path names, which cross namespaces
    memory=2 * _GIB,  # the records of all pods, and requests of 16 MiB, of which several may arrive at once
    callers=("supervisor",),
)

STREAM = Row(
    name="stream",
    contract="kernel.contracts.stream",
    entry="kernel.stream.methods:create",
    # Not the front's user: the folders on the bus admit that user, and this process parses data from any client.
    user=_stream_user,
    capabilities=frozenset(),
    bounding=False,
    no_new_privs=True,
    seccomp=Filter(sockets=Sockets.INTERNET, execve=False, mounts=False, namespaces=False),
    landlock=Landlock(
        files=Files(readable=_stream_reads, writable=_stream_writes),
        connect=False,  # connections into pods are dialled by the network worker
        bind=True,  # its clients connect by TCP
    ),
    net=Net.HOST,  # as above
    memory=_GIB,  # a bounded buffer for each of its connections
    callers=("front", "supervisor"),
)

IMAGE = Row(
    name="image",
    contract="kernel.contracts.image",
    entry="services.image.methods:create",
    user=_image_user,
    capabilities=frozenset(),
    bounding=False,
    no_new_privs=True,
    seccomp=Filter(sockets=Sockets.INTERNET, execve=False, mounts=False, namespaces=False),
    landlock=Landlock(files=Files(readable=_image_reads, writable=_image_writes), connect=True),
    net=Net.HOST,  # it connects to registries
    memory=_GIB,  # a manifest and a few pieces of blobs at a time; registries could send more
    callers=("front", "supervisor"),
)

STORAGE = Row(
    name="storage",
    contract="kernel.contracts.storage",
    entry="services.storage.methods:create",
    user=_root,
    capabilities=frozenset({
        "SYS_ADMIN",  # overlay mounts, trusted.* attributes
        "CHOWN",  # files of a layer belong to the owners that the tar names
        "DAC_OVERRIDE",  # it writes below folders whose mode comes from the tar; reads blobs of the image worker
        "FOWNER",  # modes, times and attributes of files that belong to others already
        "FSETID",  # set-group-id bits of such files
        "MKNOD",  # device files in layers
        "SETFCAP",  # file capabilities in layers
    }),
    bounding=False,
    no_new_privs=True,
    # Each layer is unpacked by children that storage starts (execve), each in a mount namespace of its own
    # (namespaces), below a filter and a capability set that they narrow further.
    seccomp=Filter(sockets=Sockets.UNIX, execve=True, mounts=True, namespaces=True),
    landlock=Landlock(files=None, connect=False),  # with files the domain would forbid mount(2) and move_mount(2)
    net=Net.EMPTY,
    memory=_GIB,  # as its children, which enforce that themselves
    callers=("front", "supervisor"),
)  # fmt: skip

NETWORK = Row(
    name="network",
    contract="kernel.contracts.network",
    entry="services.network.methods:create",
    user=_root,
    capabilities=frozenset({
        "NET_ADMIN",  # links, addresses, routes and firewall rules, here and in CNI plugins
        "NET_RAW",  # plugins announce addresses (ARP); iptables opens a raw socket
        "SYS_ADMIN",  # makes, pins and enters network namespaces
        "DAC_OVERRIDE",  # plugins' state below /var/lib/cni, which other tools may own
    }),
    bounding=False,  # plugins get no more than these
    no_new_privs=True,
    seccomp=Filter(sockets=Sockets.ANY, execve=True, mounts=True, namespaces=True),
    landlock=None,  # it mounts, and runs plugins that write to any folder
    net=Net.HOST,
    memory=_GIB,  # also the limit of each plugin
    callers=("front", "supervisor"),
)  # fmt: skip

RUNTIME = Row(
    name="runtime",
    contract="kernel.contracts.runtime",
    entry="services.runtime.methods:create",
    user=_root,
    capabilities=None,  # the OCI runtime needs them, and privileged containers get them
    bounding=True,  # inherited by containers
    no_new_privs=False,  # inherited by containers: set-user-id programs in them would stop working
    seccomp=None,  # inherited by containers
    landlock=None,  # inherited by containers
    net=Net.HOST,  # pods on the host's network inherit it
    memory=None,  # inherited by containers
    callers=("front", "supervisor"),
)

WORKERS: tuple[Row, ...] = (RUNTIME, NETWORK, STORAGE, IMAGE, STREAM, FRONT)
"""The processes that the spawner forks by row, in the order of their start; they are ended in reverse order."""
PROCESSES: tuple[Row, ...] = (SUPERVISOR, SPAWNER, *WORKERS)


def row(name: str) -> Row:
    """Return a worker's row; raises NotFound for any other name."""
    for one in WORKERS:
        if one.name == name:
            return one
    raise NotFound(f"no worker is named {name!r}", hint=f"the workers are {', '.join(one.name for one in WORKERS)}")
