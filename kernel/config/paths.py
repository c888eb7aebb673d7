"""Where everything lies below the configured `root` and `run` folders. Pure."""

from __future__ import annotations

from pathlib import Path

from kernel.ids import ContainerId, DiffId, Digest, SandboxId, digest_hex


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
