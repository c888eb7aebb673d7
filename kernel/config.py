"""The configuration: one YAML file with drop-ins, read into frozen structures; and the paths that follow from it.

`/etc/crisp/crisp.yaml`, then `/etc/crisp/crisp.yaml.d/*.yaml` in order of name; a later file's key wins.
An unknown or wrong key is an error that names file, line and key: the daemon then does not start.
Two daemons on one host differ in `root`, `run`, `cgroup_parent` and `network.config_dir`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from kernel.errors import InvalidInput
from kernel.ids import ContainerId, DiffId, Digest, SandboxId, digest_hex

PROXIES = {
    "http_proxy": ("HTTP_PROXY", "http_proxy"),
    "https_proxy": ("HTTPS_PROXY", "https_proxy"),
    "no_proxy": ("NO_PROXY", "no_proxy"),
}
"""Keys of `image` and the variables that stand in for them."""
MOST_CREATE_SECONDS = 240
DEFAULT_FILE = Path("/etc/crisp/crisp.yaml")
_BUILT_IN = {"runc": "/usr/sbin/runc", "crun": "/usr/bin/crun"}
_CGROUP = re.compile(r"(/[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]{0,200})+|[A-Za-z0-9_:@-]{1,200}\.slice", re.ASCII)


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the configuration."""


class Handler(Struct, kw_only=True, frozen=True):
    """An OCI runtime that pods can ask for by the name of its runtime handler."""

    path: str
    """The OCI runtime's binary, absolute."""
    root: str = ""
    """Where it keeps its state; a folder below `run` where empty."""
    allowed_annotations: tuple[str, ...] = ()
    """Beginnings of the annotations of pods and containers that go into the OCI specification."""
    default_annotations: dict[str, str] = {}
    """In every OCI specification; those of a request that are allowed replace them."""
    conmon: str = ""
    """Its own monitor; `runtime.conmon` where empty."""
    conmon_env: dict[str, str] = {}
    """Beside PATH, for the monitor and the OCI runtime that it runs."""
    conmon_cgroup: str = ""
    """Where its monitors go: a path as `/crisp-monitors`, or a slice with the systemd driver; the pod's cgroup where
    empty."""
    seccomp_profile: str = ""
    """Its own RuntimeDefault profile; `runtime.seccomp_profile` where empty."""
    create_timeout: float = 240.0
    """Seconds that the creation of a container may take, 240 at most."""
    min_memory: int | None = None
    """The least memory limit in bytes; where not given 500 KiB for crun, 12 MiB for any other."""
    privileged_without_host_devices: bool = False
    """Whether privileged containers get only the devices that they ask for."""

    @property
    def least_memory(self) -> int:
        """Bytes below which a container would not even start."""
        if self.min_memory is not None:
            return self.min_memory
        return 500 << 10 if "crun" in Path(self.path).name else 12 << 20


class ImageSection(Struct, kw_only=True, frozen=True):
    registries_conf: str = "/etc/containers/registries.conf"
    certs_dir: str = "/etc/containers/certs.d"
    registries_d: str = "/etc/containers/registries.d"
    """Where images' signatures are; read again when it changes."""
    lookaside_dirs: tuple[str, ...] = ("/var/lib/containers/sigstore",)
    """Folders that registries.d may name as `file://` lookaside; the first is looked into where it names none."""
    signature_policy: str = "/etc/containers/policy.json"
    """Which images are accepted. Where it is missing or does not read, none is."""
    signature_policy_dir: str = "/etc/crisp/policies"
    """`NAMESPACE.json` in it stands in for `signature_policy` for that namespace's pods; no such thing where empty."""
    http_proxy: str = ""
    """`http://[user:password@]host:port` for registries that are reached by http. Where empty the daemon's variable
    HTTP_PROXY counts, and so for the next two."""
    https_proxy: str = ""
    """The same for https, by CONNECT."""
    no_proxy: str = ""
    """Hosts reached directly: addresses, networks, and domains with all below them, with commas between."""
    global_auth_file: str = ""
    """An auth.json that the image worker's user can read: credentials by registry, or with a
    path below it, for pulls that bring none. None where empty; read again when it changes."""
    namespaced_auth_dir: str = ""
    """A folder of auth.json files for the pods of one namespace, asked before the node's own: NAMESPACE.json, or
    NAMESPACE-SHA256.json for the repository whose name (`registry/path`) has that digest. None where empty."""
    credential_helper_dir: str = ""
    """Where the programs `docker-credential-NAME` lie that auth files and registries.conf name; root's alone to write.
    Where empty none is run, and registries that a file names one for are refused."""
    parallel_downloads: int = 6
    progress_timeout: float = 60.0
    """Seconds without a byte after which a connection is given up."""
    download_retries: int = 5
    """How often a download that stalls or breaks off is tried again in a row, with nothing come in between."""
    keep_blobs: bool = False
    """Whether compressed layers are kept once they are unpacked, until their image is removed."""
    platform: str = ""
    """os/architecture[/variant] to choose from an index; the host's where empty."""
    user: str = "crisp-image"
    pinned: tuple[str, ...] = ()
    foreign_layers: bool = False
    """Whether the registry is asked for layers that are marked as not to be distributed; other URLs never are."""
    token_servers: tuple[str, ...] = ()
    """Further hosts (`host[:port]`) that registries may name as token server and that then get the credentials;
    those of a registry's own domain always may."""


class StorageSection(Struct, kw_only=True, frozen=True):
    image_store: str = ""
    """The folder of unpacked layers, on whatever file system; `storage` below `root` where empty."""
    driver: Literal["auto", "overlay", "vfs"] = "auto"
    """How containers' roots are made. auto: overlay, and copies (vfs) where none can be mounted."""
    writable_bytes: int = 0
    """The most that a container may write into its root; no limit where 0. Wants project quotas where they lie."""
    writable_inodes: int = 0
    max_layer_bytes: int = 64 << 30
    """The most bytes one unpacked layer may take."""
    max_layer_entries: int = 4_000_000
    max_layer_ratio: int = 200
    """How many times its blob's size an unpacked layer may take that takes more than 1 GiB."""
    stall_timeout: float = 120.0
    """Seconds after which an unpack, or a check, of which no byte moves is given up."""


class NetworkSection(Struct, kw_only=True, frozen=True):
    config_dir: str = "/etc/cni/net.d"
    plugin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni")
    default_network: str = ""
    """The network to use by name; the first file in order of name where empty."""
    timeout: float = 60.0
    """Seconds that one plugin may take."""
    host_ports: Literal["auto", "crisp", "cni"] = "auto"
    """Who forwards host ports. auto: crisp, unless a plugin of the network declares the capability portMappings;
    crisp: always crisp, and plugins are told of none; cni: always the plugins."""
    primary_family: Literal["cni", "ipv4", "ipv6"] = "cni"
    """Which of a pod's addresses is its primary one; cni: the plugins' first."""
    config_template: str = ""
    """A network configuration with places for the node's pod CIDR, which UpdateRuntimeConfig fills in and writes to
    `config_dir`; nothing is written where empty."""
    status_interval: float = 5.0
    """Seconds between two STATUS calls to a network of CNI 1.1 or newer."""


class StreamSection(Struct, kw_only=True, frozen=True):
    address: str = "127.0.0.1"
    """Where clients of exec, attach and port-forward connect to: the kubelet, on this node."""
    port: int = 0
    """Any free one where 0, the same again after a restart."""
    tls_cert: str = ""
    """Certificates in PEM, with the server's own first; no TLS where empty. Read again when the file changes."""
    tls_key: str = ""
    """Its key in PEM, which the stream process's user can read; in `tls_cert` where empty."""
    tls_ca: str = ""
    """Authorities in PEM whose certificates clients must show; anybody with a token where empty."""
    idle_timeout: float = 14400.0
    """Seconds without a byte after which a session is ended; never where 0."""
    user: str = "crisp-stream"


class RuntimeSection(Struct, kw_only=True, frozen=True):
    default_handler: str = "runc"
    handlers: dict[str, Handler] = msgspec.field(
        default_factory=lambda: {name: Handler(path=path) for name, path in _BUILT_IN.items()}
    )
    """By name. runc and crun are there beside what a file gives, which may change their keys; null takes one away."""
    conmon: str = "/usr/bin/conmon"
    pause: str = "/usr/bin/catatonit"
    """A static binary that waits and reaps as process 1 of a shared PID namespace."""
    cgroup_driver: Literal["auto", "cgroupfs", "systemd"] = "auto"
    """auto: systemd where systemd is process 1, else cgroupfs."""
    cgroup_parent: str = "/crisp"
    """Parent of pods whose request names no cgroup parent."""
    cgroup_roots: tuple[str, ...] = ()
    """Cgroups that a request's cgroup parent must be below, as `/kubepods` (or `kubepods.slice`); any where empty."""
    default_capabilities: tuple[str, ...] = (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL",
        "NET_RAW", "MKNOD", "SYS_CHROOT", "AUDIT_WRITE", "SETFCAP",
    )  # fmt: skip
    seccomp_profile: str = ""
    """File of the RuntimeDefault profile, as containers/common has it. Empty: /usr/share/containers/seccomp.json
    where it is, else the one built in; `builtin`: that one."""
    privileged_seccomp_profile: str = ""
    """File of the profile of privileged containers; they are unconfined where empty."""
    unset_seccomp: Literal["unconfined", "default"] = "unconfined"
    """What a container gets whose request names no seccomp profile."""
    seccomp_root: str = "/var/lib/kubelet/seccomp"
    """The folder that Localhost profiles lie below."""
    apparmor_profile: str = "crisp-default"
    """The loaded profile that is RuntimeDefault; crisp-default is crisp's own, which it loads itself."""
    selinux: Literal["auto", "ignore"] = "auto"
    """auto: as the kernel has it, and options where it has none are refused; ignore: as if nobody asked for any."""
    blockio_config_file: str = ""
    """Classes of block I/O, as goresctrl has them; read anew for each container that names one by annotation."""
    default_pids_limit: int = 0
    """Most processes of a container; no limit where 0."""
    default_ulimits: tuple[str, ...] = ()
    """`nofile=1024:4096` or `core=0`: soft and hard limit of every container, named as in setrlimit(2)."""
    default_env: tuple[str, ...] = ()
    """`NAME=value` for every container; image and request may replace it."""
    default_sysctls: dict[str, str] = {}
    """For every pod that has the namespace they belong to; the request may replace them."""
    default_mounts_file: str = ""
    """As /usr/share/containers/mounts.conf: lines `SOURCE:TARGET` (or `PATH`), mounted read-only in every container."""
    timezone: str = ""
    """Mounted at /etc/localtime in every container: `Local` for the host's, or a name as `Europe/Berlin`."""
    umask: str = ""
    """Of every container's process, in octal; the OCI runtime's (0022) where empty."""
    shm_size: int = 64 << 20
    """Bytes of a pod's /dev/shm."""
    absent_mount_sources_to_reject: tuple[str, ...] = ()
    """Host paths that are not made as folders where a mount names them and they are missing."""
    additional_devices: tuple[str, ...] = ()
    """`HOST[:CONTAINER][:rwm]`: devices for every container."""
    device_ownership_from_security_context: bool = False
    """Whether devices belong to the container's user and group rather than to those of the host."""
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
    """Folders of CDI specifications; a later one's devices replace an earlier one's."""
    checkpoint: Literal["none", "checkpoint_only", "checkpoint_restore"] = "checkpoint_restore"
    """Whether CRIU, where it is installed, may checkpoint containers, and restore them from archives that only root
    can have written."""
    checkpoint_images: tuple[str, ...] = ()
    """Beginnings of the names of images (`registry/repository`) that containers may be restored from. None by itself:
    CRIU makes processes of them as root, with whatever privileges the image says."""
    hooks_dirs: tuple[str, ...] = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
    """Folders of OCI hooks; a later one's file replaces an earlier one's of its name."""


class Config(Struct, kw_only=True, frozen=True):
    """The whole configuration; every key has a default, so an empty file is one."""

    root: str = "/var/lib/crisp"
    run: str = "/run/crisp"
    socket: str = ""
    """The CRI socket; crisp.sock below `run` where empty."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    user: str = "crisp"
    """Whom the front runs as."""
    image: ImageSection = msgspec.field(default_factory=ImageSection)
    storage: StorageSection = msgspec.field(default_factory=StorageSection)
    network: NetworkSection = msgspec.field(default_factory=NetworkSection)
    runtime: RuntimeSection = msgspec.field(default_factory=RuntimeSection)
    stream: StreamSection = msgspec.field(default_factory=StreamSection)

    @property
    def paths(self) -> Paths:
        """Where everything lies."""
        socket = Path(self.socket or f"{self.run}/crisp.sock")
        image_store = Path(self.storage.image_store) if self.storage.image_store else None
        return Paths(Path(self.root), Path(self.run), socket, image_store)


class Paths:
    """Every path that more than one process knows, derived from ids by the one function that both call.

    No message on the bus carries a path below these folders: each worker derives it here.
    """

    def __init__(self, root: Path, run: Path, socket: Path, image_store: Path | None = None) -> None:
        self.root = root
        self.run = run
        self.socket = socket
        self.image_store = image_store or root / "storage"
        """The folder above that of unpacked layers."""

    @property
    def front_socket(self) -> Path:
        """Where the front binds the CRI socket, in the one folder that it can write; `socket` is a link to it."""
        return self.run / "front" / "crisp.sock"

    @property
    def state_db(self) -> Path:
        """The state on disk; the supervisor's alone."""
        return self.root / "state" / "state.db"

    @property
    def blobs(self) -> Path:
        """The image worker's folder of verified compressed blobs."""
        return self.root / "image" / "blobs" / "sha256"

    def blob(self, digest: Digest) -> Path:
        """A verified compressed blob."""
        return self.blobs / digest_hex(digest)

    @property
    def incoming(self) -> Path:
        """Archives handed in by the administrator for `crisp image load`; root writes, the image worker reads."""
        return self.root / "image" / "incoming"

    @property
    def layers(self) -> Path:
        """Unpacked layers, one folder per diff id; storage's alone."""
        return self.image_store / "layers"

    def layer(self, diff_id: DiffId) -> Path:
        """An unpacked layer; its files are in the folder `diff` below."""
        return self.layers / digest_hex(diff_id)

    @property
    def outgoing(self) -> Path:
        """Tars of layers on their way into an archive that is being saved; storage writes, root takes away."""
        return self.root / "storage" / "outgoing"

    @property
    def containers(self) -> Path:
        """Writable layers and root mounts, one folder per container; storage's alone."""
        return self.root / "storage" / "containers"

    def rootfs(self, container: ContainerId) -> Path:
        """Where storage mounts a container's root file system."""
        return self.containers / container / "rootfs"

    def checkpoint(self, container: ContainerId) -> Path:
        """Where runtime and storage gather the parts of a container's checkpoint, or lay them out to restore it. The
        folder goes with the container at the latest."""
        return self.containers / container / "checkpoint"

    def image_volume(self, container: ContainerId, number: int) -> Path:
        """Where storage mounts the image of a container's `number`th image volume, read-only."""
        return self.containers / container / "volumes" / str(number)

    @property
    def netns_dir(self) -> Path:
        """Pinned network namespaces, one file per sandbox; network's alone."""
        return self.run / "netns"

    def netns(self, sandbox: SandboxId) -> Path:
        """A pod's pinned network namespace."""
        return self.netns_dir / sandbox

    @property
    def network_state(self) -> Path:
        """The network worker's cache of ADD results, one file per sandbox."""
        return self.root / "network"

    @property
    def runtime_state(self) -> Path:
        """Pods' and containers' bundles, namespaces, exit files; the runtime's alone; gone after a reboot."""
        return self.run / "runtime"

    def pod_namespace(self, sandbox: SandboxId, kind: str) -> Path:
        """A pod's namespace that the runtime has pinned. Of `user`, storage makes id-mapped mounts; the `net` of a pod
        with a user namespace is made with it, and pinned again at `netns` by the network worker."""
        return self.runtime_state / "pods" / sandbox / "ns" / kind

    @property
    def stream_dir(self) -> Path:
        """The stream process's own folder."""
        return self.run / "stream"

    @property
    def stream_port(self) -> Path:
        """Where the stream process remembers its port."""
        return self.stream_dir / "port"

    @property
    def stream_fds(self) -> Path:
        """The socket on which the stream process takes descriptors from the runtime and network workers."""
        return self.stream_dir / "fds.sock"

    def bus_dir(self, worker: str) -> Path:
        """The folder of a worker's socket; only its callers can enter."""
        return self.run / "bus" / worker

    def bus(self, worker: str) -> str:
        """A worker's ZeroMQ endpoint."""
        return f"ipc://{self.bus_dir(worker)}/calls"


def load(file: Path | None = None) -> Config:
    """Read the configuration: `file` (else the default one, which may be missing) and its drop-ins.

    InvalidInput names file, line and key.
    """
    main = file or DEFAULT_FILE
    merged: dict[str, object] = {}
    found = [main] if main.exists() else []
    if file and not found:
        raise InvalidInput(f"configuration file {file} does not exist")
    for part in [*found, *sorted(Path(f"{main}.d").glob("*.yaml"))]:
        merged = _merge(merged, _read(part))
    config = _convert(merged)
    stream = config.stream
    if (stream.tls_key or stream.tls_ca) and not stream.tls_cert:  # they may be of different files
        raise InvalidInput(
            "configuration key 'stream.tls_cert' is empty, but there is a key or authority to go with it"
        )
    return config


def with_environment(config: Config, environment: Mapping[str, str]) -> Config:
    """The configuration with the proxies of the daemon's environment, where it names none itself."""
    found = {key: next((environment[name] for name in names if environment.get(name)), "")
             for key, names in PROXIES.items()}  # fmt: skip
    missing = {key: value for key, value in found.items() if value and not getattr(config.image, key)}
    return msgspec.structs.replace(config, image=msgspec.structs.replace(config.image, **missing))


def effective_file(config: Config) -> Path:
    """The configuration that the daemon runs with, for a new spawner: not what the file of /etc says by then."""
    return config.paths.run / "config.yaml"


def dump(config: Config) -> str:
    """The effective configuration as YAML."""
    found = msgspec.to_builtins(config)
    handlers = found["runtime"]["handlers"]
    handlers.update({name: None for name in _BUILT_IN if name not in handlers})
    return yaml.safe_dump(found, sort_keys=False)


def _merge(under: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _read(path: Path) -> dict[str, object]:
    """One file, checked by itself so that an error can name its line."""
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"configuration file {path} cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInput(f"configuration file {path}, line {line}: not YAML: {error.problem}") from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not isinstance(node, yaml.MappingNode):
        raise InvalidInput(f"configuration file {path}, line 1: must be a mapping of keys")
    _refuse_duplicates(node, path)
    try:
        _convert(data)
    except InvalidInput as error:
        key = error.message.rpartition(" - at ")[2] if " - at " in error.message else "$"
        line, name = _locate(node, error.message, key)
        raise InvalidInput(f"configuration file {path}, line {line}, key {name!r}: {error.message}") from error
    return data


def _with_built_in(data: dict[str, object]) -> dict[str, object]:
    """The handlers that a file gives beside those that are there anyway."""
    runtime = data.get("runtime")
    given = runtime.get("handlers") if isinstance(runtime, dict) else None
    if not isinstance(runtime, dict) or not isinstance(given, dict):
        return data
    merged = _merge({name: {"path": path} for name, path in _BUILT_IN.items()}, given)
    handlers = {name: handler for name, handler in merged.items() if handler is not None}
    return {**data, "runtime": {**runtime, "handlers": handlers}}


def _convert(data: dict[str, object]) -> Config:
    try:
        config = msgspec.convert(_with_built_in(data), Config)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error).replace("`", "'")) from error
    if config.runtime.default_handler not in config.runtime.handlers:
        raise InvalidInput(
            f"no runtime handler is named '{config.runtime.default_handler}' - at '$.runtime.default_handler'"
        )
    for index, root in enumerate(config.runtime.cgroup_roots):
        if not _CGROUP.fullmatch(root):
            raise InvalidInput(f"'{root}' is not a cgroup - at '$.runtime.cgroup_roots[{index}]'")
    if config.network.status_interval < 1:
        raise InvalidInput(f"{config.network.status_interval} is less than 1 - at '$.network.status_interval'")
    _check_stream(config.stream)
    for name, handler in config.runtime.handlers.items():
        where = f"$.runtime.handlers.{name}"
        if not 1 <= handler.create_timeout <= MOST_CREATE_SECONDS:
            raise InvalidInput(
                f"{handler.create_timeout} is not between 1 and {MOST_CREATE_SECONDS} - at '{where}.create_timeout'"
            )
        for key, path in (("path", handler.path), ("conmon", handler.conmon or "/"), ("root", handler.root or "/")):
            if not path.startswith("/"):
                raise InvalidInput(f"'{path}' is not an absolute path - at '{where}.{key}'")
        if handler.conmon_cgroup and not _CGROUP.fullmatch(handler.conmon_cgroup):
            raise InvalidInput(f"'{handler.conmon_cgroup}' is not a cgroup - at '{where}.conmon_cgroup'")
    if not (config.storage.image_store or "/").startswith("/"):
        raise InvalidInput(f"'{config.storage.image_store}' is not an absolute path - at '$.storage.image_store'")
    return config


def _check_stream(section: StreamSection) -> None:
    if not 0 <= section.port <= 65535:
        raise InvalidInput(f"{section.port} is not between 0 and 65535 - at '$.stream.port'")
    if section.idle_timeout < 0:
        raise InvalidInput(f"{section.idle_timeout} is less than 0 - at '$.stream.idle_timeout'")


def _refuse_duplicates(node: yaml.MappingNode, path: Path) -> None:
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            raise InvalidInput(
                f"configuration file {path}, line {key.start_mark.line + 1}, key {key.value!r}: given twice"
            )
        seen.add(key.value)
        if isinstance(value, yaml.MappingNode):
            _refuse_duplicates(value, path)


def _locate(node: yaml.MappingNode, message: str, where: str) -> tuple[int, str]:
    """The line and dotted name of the key that msgspec's path (`$.image.user`) means."""
    names = re.findall(r"\.\.\.|[^.\[\]$']+", where)
    unknown = re.search(r"unknown field '([^']*)'", message)
    if unknown:
        names.append(unknown.group(1))
    trail = _follow(node, names)
    return trail[-1][0] if trail else node.start_mark.line + 1, ".".join(name for _, name in trail) or ".".join(names)


def _follow(node: yaml.Node, names: list[str]) -> list[tuple[int, str]]:
    """Line and name of each key on the way; `...` in a path of msgspec's stands for any key of a free mapping."""
    if not names or not isinstance(node, yaml.MappingNode):
        return []
    longest: list[tuple[int, str]] = []
    for key, value in node.value:
        if names[0] in ("...", key.value):
            trail = [(key.start_mark.line + 1, str(key.value)), *_follow(value, names[1:])]
            longest = max(longest, trail, key=len)
    return longest
