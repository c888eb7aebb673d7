"""The paths of all files and folders below the configured `root` and `run` folders. Pure."""

from __future__ import annotations

from pathlib import Path

from kernel.ids import ContainerId, DiffId, Digest, SandboxId, digest_hex


class Paths:
    """The paths that more than one process uses, each derived from ids by one function that they all call.

    No message on the bus carries a path below these folders: each worker derives it here.
    """

    def __init__(self, root: Path, run: Path, socket: Path, image_store: Path | None = None) -> None:
        self.root = root
        self.run = run
        self.socket = socket
        self.image_store = image_store or root / "storage"
        """The folder that contains the folder of unpacked layers."""

    @property
    def front_socket(self) -> Path:
        """The front's CRI socket, in the one folder that the front can write; `socket` is a link to it."""
        return self.run / "front" / "crisp.sock"

    @property
    def state_db(self) -> Path:
        """The state on disk; only the supervisor uses it."""
        return self.root / "state" / "state.db"

    @property
    def blobs(self) -> Path:
        """The image worker's folder of verified compressed blobs."""
        return self.root / "image" / "blobs" / "sha256"

    def blob(self, digest: Digest) -> Path:
        """Return the file of a verified compressed blob."""
        return self.blobs / digest_hex(digest)

    @property
    def incoming(self) -> Path:
        """Folder of the archives that `crisp image load` has copied; root writes, the image worker reads."""
        return self.root / "image" / "incoming"

    @property
    def layers(self) -> Path:
        """Unpacked layers, one folder per diff id; only storage uses it."""
        return self.image_store / "layers"

    def layer(self, diff_id: DiffId) -> Path:
        """Return the folder of an unpacked layer, whose files are in the folder `diff` below."""
        return self.layers / digest_hex(diff_id)

    @property
    def outgoing(self) -> Path:
        """Tars of layers on their way into an archive that is being saved; storage writes them, root removes them."""
        return self.root / "storage" / "outgoing"

    @property
    def containers(self) -> Path:
        """Writable layers and root mounts, one folder per container; only storage uses it."""
        return self.root / "storage" / "containers"

    def rootfs(self, container_id: ContainerId) -> Path:
        """Return the folder on which storage mounts a container's root file system."""
        return self.containers / container_id / "rootfs"

    def checkpoint(self, container_id: ContainerId) -> Path:
        """Return the folder in which the runtime and storage workers collect the parts of a container's checkpoint, to
        save it or to restore from it.

        It is removed with the container at the latest.
        """
        return self.containers / container_id / "checkpoint"

    def image_volume(self, container_id: ContainerId, number: int) -> Path:
        """Return the folder on which storage mounts the image of a container's `number`th image volume, read-only."""
        return self.containers / container_id / "volumes" / str(number)

    @property
    def netns_dir(self) -> Path:
        """Pinned network namespaces, one file per sandbox; only the network worker makes them."""
        return self.run / "netns"

    def netns(self, sandbox_id: SandboxId) -> Path:
        """Return the file on which a pod's network namespace is pinned."""
        return self.netns_dir / sandbox_id

    @property
    def network_state(self) -> Path:
        """The network worker's calls of plugins with their answers, one file per sandbox."""
        return self.root / "network"

    @property
    def runtime_state(self) -> Path:
        """Bundles, namespaces and exit files of pods and containers. Only the runtime worker uses it, and it is empty
        after a reboot."""
        return self.run / "runtime"

    def pod_namespace(self, sandbox_id: SandboxId, kind: str) -> Path:
        """Return the file on which the runtime worker has pinned a namespace of a pod.

        Storage makes id-mapped mounts from the kind `user`. The kind `net` exists only for a pod with a user namespace,
        and the network worker pins it again at `netns`.
        """
        return self.runtime_state / "pods" / sandbox_id / "ns" / kind

    @property
    def stream_dir(self) -> Path:
        """The stream process's own folder."""
        return self.run / "stream"

    @property
    def stream_port(self) -> Path:
        """File in which the stream process keeps its port."""
        return self.stream_dir / "port"

    @property
    def stream_fds(self) -> Path:
        """The socket on which the stream process receives descriptors from the runtime and network workers."""
        return self.stream_dir / "fds.sock"

    def bus_dir(self, worker: str) -> Path:
        """Return the folder of a worker's socket, which only its callers can enter."""
        return self.run / "bus" / worker

    def bus(self, worker: str) -> str:
        """Return a worker's ZeroMQ endpoint."""
        return f"ipc://{self.bus_dir(worker)}/calls"
