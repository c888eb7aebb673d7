"""The configuration's keys as frozen structures, one class per section of the YAML file. Pure.

A key's type is its first check; `kernel.config.reading` does the others and names file, line and key in its errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from kernel.config.paths import Paths

PROXIES = {
    "http_proxy": ("HTTP_PROXY", "http_proxy"),
    "https_proxy": ("HTTPS_PROXY", "https_proxy"),
    "no_proxy": ("NO_PROXY", "no_proxy"),
}
"""Keys of `image`, and for each the environment variables that set it if the file does not."""
MOST_CREATE_SECONDS = 240
BUILT_IN_HANDLERS = {"runc": "/usr/sbin/runc", "crun": "/usr/bin/crun"}
"""Runtime handlers that exist without being configured, with the paths of their programs on Debian."""


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the configuration."""


class Handler(Struct, kw_only=True, frozen=True):
    """An OCI runtime that a pod selects by the name of its runtime handler."""

    path: str
    """The OCI runtime's binary, absolute."""
    root: str = ""
    """The folder in which the OCI runtime keeps its state; a folder below `run` if empty."""
    allowed_annotations: tuple[str, ...] = ()
    """Prefixes of the annotations of pods and containers that are copied into the OCI specification."""
    default_annotations: dict[str, str] = {}
    """Annotations that are in every OCI specification; a request's allowed annotations replace them."""
    conmon: str = ""
    """Path of this handler's monitor; `runtime.conmon` if empty."""
    conmon_env: dict[str, str] = {}
    """Environment, in addition to PATH, of the monitor and of the OCI runtime that it runs."""
    conmon_cgroup: str = ""
    """The cgroup of this handler's monitors: a path such as `/crisp-monitors`, or a slice with the systemd driver; the
    pod's cgroup if empty."""
    seccomp_profile: str = ""
    """File of this handler's RuntimeDefault profile; `runtime.seccomp_profile` if empty."""
    create_timeout: float = 240.0
    """Seconds that the creation of a container may take, 240 at most."""
    min_memory: int | None = None
    """The lowest memory limit that is accepted, in bytes; if not given, 500 KiB for crun and 12 MiB for any other."""
    privileged_without_host_devices: bool = False
    """Whether privileged containers get only the devices that they ask for."""

    @property
    def least_memory(self) -> int:
        """The bytes of memory below which a container would not even start."""
        if self.min_memory is not None:
            return self.min_memory
        return 500 << 10 if "crun" in Path(self.path).name else 12 << 20


class ImageSection(Struct, kw_only=True, frozen=True):
    registries_conf: str = "/etc/containers/registries.conf"
    certs_dir: str = "/etc/containers/certs.d"
    registries_d: str = "/etc/containers/registries.d"
    """The folder registries.d, which names the places of images' signatures; read again when it changes."""
    lookaside_dirs: tuple[str, ...] = ("/var/lib/containers/sigstore",)
    """Folders that registries.d may name as `file://` lookaside; if it names none, the first one is read."""
    signature_policy: str = "/etc/containers/policy.json"
    """The file that decides which images are accepted. If it is missing or cannot be read, none is."""
    signature_policy_dir: str = "/etc/crisp/policies"
    """A folder of policies: `NAMESPACE.json` in it replaces `signature_policy` for that namespace's pods; none if
    empty."""
    http_proxy: str = ""
    """`http://[user:password@]host:port` for registries that are reached by http. If it is empty, the daemon's variable
    HTTP_PROXY counts; the next two keys have variables likewise."""
    https_proxy: str = ""
    """The proxy for registries that are reached by https, used by CONNECT."""
    no_proxy: str = ""
    """Hosts that are reached directly: addresses, networks, and domains with all below them, separated by commas."""
    global_auth_file: str = ""
    """An auth.json that the image worker's user can read: credentials by registry, or by registry and path, for pulls
    that bring none. None if empty; read again when it changes."""
    namespaced_auth_dir: str = ""
    """A folder of auth.json files for the pods of one namespace, searched before the node's own file: NAMESPACE.json,
    or NAMESPACE-SHA256.json for the repository whose name (`registry/path`) has that digest. None if empty."""
    credential_helper_dir: str = ""
    """The folder of the programs `docker-credential-NAME` that auth files and registries.conf name; only root may write
    to it. If it is empty, no program is run, and a registry for which a file names one is refused."""
    parallel_downloads: int = 6
    progress_timeout: float = 60.0
    """Seconds with less than 4 KiB after which a connection is given up."""
    download_retries: int = 5
    """The number of retries in a row, with nothing received in between, for a download that stalls or breaks off."""
    keep_blobs: bool = False
    """Whether compressed layers are kept after they are unpacked, until their image is removed."""
    platform: str = ""
    """os/architecture[/variant] to choose from an index; the host's if empty."""
    user: str = "crisp-image"
    pinned: tuple[str, ...] = ()
    foreign_layers: bool = False
    """Whether layers that are marked as not to be distributed are requested from the registry; their other URLs never
    are."""
    token_servers: tuple[str, ...] = ()
    """Further hosts (`host[:port]`) that registries may name as token server and that then get the credentials; hosts
    of the registry's own domain always may."""


class StorageSection(Struct, kw_only=True, frozen=True):
    image_store: str = ""
    """The folder of unpacked layers, on any file system; `storage` below `root` if empty."""
    driver: Literal["auto", "overlay", "vfs"] = "auto"
    """How containers' roots are made. auto: overlay, or copies (vfs) if no overlay can be mounted."""
    writable_bytes: int = 0
    """The most bytes that a container may write into its root; no limit if 0. Needs project quotas on that file
    system."""
    writable_inodes: int = 0
    max_layer_bytes: int = 64 << 30
    """The most bytes that one unpacked layer may take."""
    max_layer_entries: int = 4_000_000
    max_layer_ratio: int = 200
    """The ratio of an unpacked layer's size to its blob's size that is still accepted, for layers of more than 1
    GiB."""
    stall_timeout: float = 120.0
    """Seconds without a byte read or written after which an unpack or a check is given up."""


class NetworkSection(Struct, kw_only=True, frozen=True):
    config_dir: str = "/etc/cni/net.d"
    plugin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni")
    default_network: str = ""
    """Name of the network to use; the first file in order of name if empty."""
    timeout: float = 60.0
    """Seconds that one plugin may take."""
    host_ports: Literal["auto", "crisp", "cni"] = "auto"
    """The component that forwards host ports. auto: crisp, unless a plugin of the network declares the capability
    portMappings; crisp: always crisp, and plugins get no port mappings; cni: always the plugins."""
    primary_family: Literal["cni", "ipv4", "ipv6"] = "cni"
    """The family of a pod's primary address; cni: the family of the plugins' first address."""
    config_template: str = ""
    """A network configuration with placeholders for the node's pod CIDR, which UpdateRuntimeConfig fills in and writes
    to `config_dir`; nothing is written if empty."""
    status_interval: float = 5.0
    """Seconds between two STATUS calls to a network of CNI 1.1 or newer."""


class StreamSection(Struct, kw_only=True, frozen=True):
    address: str = "127.0.0.1"
    """The address to which clients of exec, attach and port-forward connect. The client is the kubelet, on this
    node."""
    port: int = 0
    """The port; if 0, any free one, and the same one again after a restart."""
    tls_cert: str = ""
    """Certificates in PEM, the server's own first; no TLS if empty. Read again when the file changes."""
    tls_key: str = ""
    """The server's key in PEM, which the stream process's user can read; the key in `tls_cert` if empty."""
    tls_ca: str = ""
    """Authorities in PEM; clients must show a certificate of one of them. If empty, a session's token is enough."""
    idle_timeout: float = 14400.0
    """Seconds without a byte after which a session is ended; never if 0."""
    user: str = "crisp-stream"


class RuntimeSection(Struct, kw_only=True, frozen=True):
    default_handler: str = "runc"
    handlers: dict[str, Handler] = msgspec.field(
        default_factory=lambda: {name: Handler(path=path) for name, path in BUILT_IN_HANDLERS.items()}
    )
    """Handlers by name. runc and crun are built in: a file may change their keys, or remove one with null."""
    conmon: str = "/usr/bin/conmon"
    pause: str = "/usr/bin/catatonit"
    """Path of a static binary that waits and reaps as process 1 of a shared PID namespace."""
    cgroup_driver: Literal["auto", "cgroupfs", "systemd"] = "auto"
    """auto: systemd if systemd is process 1, else cgroupfs."""
    cgroup_parent: str = "/crisp"
    """Parent of pods whose request names no cgroup parent."""
    cgroup_roots: tuple[str, ...] = ()
    """Cgroups that a request's cgroup parent must be below, such as `/kubepods` (or `kubepods.slice`); any if empty."""
    default_capabilities: tuple[str, ...] = (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL",
        "NET_RAW", "MKNOD", "SYS_CHROOT", "AUDIT_WRITE", "SETFCAP",
    )  # fmt: skip
    seccomp_profile: str = ""
    """File of the RuntimeDefault profile, in the format of containers/common. If empty,
    /usr/share/containers/seccomp.json, or the built-in profile if that does not exist; `builtin`: always the built-in
    profile."""
    privileged_seccomp_profile: str = ""
    """File of the profile of privileged containers; they are unconfined if empty."""
    unset_seccomp: Literal["unconfined", "default"] = "unconfined"
    """The profile of a container whose request names no seccomp profile."""
    seccomp_root: str = ""
    """A folder that Localhost profiles must be below. If empty they may be anywhere, provided that root owns them and
    no other user can write them."""
    apparmor_profile: str = "crisp-default"
    """The loaded profile that RuntimeDefault stands for; crisp loads its own, crisp-default, itself."""
    selinux: Literal["auto", "ignore"] = "auto"
    """auto: use SELinux if the kernel has it, else refuse requests with SELinux options; ignore: drop such options."""
    blockio_config_file: str = ""
    """File of the classes of block I/O, in the format of goresctrl; read again for each container that names one by
    annotation."""
    default_pids_limit: int = 0
    """The most processes of a container; no limit if 0."""
    default_ulimits: tuple[str, ...] = ()
    """Soft and hard limits of every container, named as in setrlimit(2): `nofile=1024:4096` or `core=0`."""
    default_env: tuple[str, ...] = ()
    """`NAME=value` for every container; image and request may replace it."""
    default_sysctls: dict[str, str] = {}
    """Sysctls of every pod that has the namespace they belong to; a request may replace them."""
    default_mounts_file: str = ""
    """A file in the format of /usr/share/containers/mounts.conf: lines `SOURCE:TARGET` (or `PATH`), mounted read-only
    in every container."""
    timezone: str = ""
    """The time zone mounted at /etc/localtime in every container: `Local` for the host's, or a name such as
    `Europe/Berlin`."""
    umask: str = ""
    """The umask of every container's process, in octal; the OCI runtime's (0022) if empty."""
    shm_size: int = 64 << 20
    """Bytes of a pod's /dev/shm."""
    absent_mount_sources_to_reject: tuple[str, ...] = ()
    """Host paths that are not created as folders if a mount names them and they are missing."""
    additional_devices: tuple[str, ...] = ()
    """Devices for every container: `HOST[:CONTAINER][:rwm]`."""
    device_ownership_from_security_context: bool = False
    """Whether devices belong to the container's user and group rather than to the device's user and group on the
    host."""
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
    """Folders of CDI specifications; devices of a later folder replace the same ones of an earlier folder."""
    checkpoint: Literal["none", "checkpoint_only", "checkpoint_restore"] = "checkpoint_restore"
    """Whether CRIU, if it is installed, may checkpoint containers, and restore them from archives that only root
    can have written."""
    checkpoint_images: tuple[str, ...] = ()
    """Prefixes of the names of images (`registry/repository`) that containers may be restored from. None by default:
    CRIU makes processes of them as root, with the privileges that the image gives them."""
    hooks_dirs: tuple[str, ...] = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
    """Folders of OCI hooks; a file of a later folder replaces the file of the same name in an earlier one."""


class Config(Struct, kw_only=True, frozen=True):
    """The whole configuration; every key has a default, so an empty file is one."""

    root: str = "/var/lib/crisp"
    run: str = "/run/crisp"
    socket: str = ""
    """The CRI socket; crisp.sock below `run` if empty."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    user: str = "crisp"
    """The user that the front runs as."""
    image: ImageSection = msgspec.field(default_factory=ImageSection)
    storage: StorageSection = msgspec.field(default_factory=StorageSection)
    network: NetworkSection = msgspec.field(default_factory=NetworkSection)
    runtime: RuntimeSection = msgspec.field(default_factory=RuntimeSection)
    stream: StreamSection = msgspec.field(default_factory=StreamSection)

    @property
    def paths(self) -> Paths:
        """The paths that follow from `root` and `run`."""
        socket = Path(self.socket or f"{self.run}/crisp.sock")
        image_store = Path(self.storage.image_store) if self.storage.image_store else None
        return Paths(Path(self.root), Path(self.run), socket, image_store)
