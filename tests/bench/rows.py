"""The rows of the table: each measures crisp beside its raw parts in turns, and says what it may be at most."""

from __future__ import annotations

import secrets
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.demo_image import Layer, digest, image
from kernel.cri.generated import cri_pb2 as pb
from tests.bench import byhand
from tests.harness import host, stream_speed
from tests.harness.cri import Pod, pod_config
from tests.harness.daemon import Daemon
from tests.harness.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    budget: float
    measured: float
    unit: str
    detail: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.budget if self.at_least else self.measured <= self.budget


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything; smaller for a quick look."""

    rounds: int = 15
    together: int = 24
    many: int = 100
    some: int = 30
    calls: int = 300
    layer: int = 400 << 20
    files: int = 16_000
    images: int = 200
    streamed: int = 512
    """MiB."""


QUICK = Sizes(rounds=4, together=8, many=10, some=5, calls=60, layer=40 << 20, files=2000, images=20, streamed=64)


class Bench:
    """A daemon of its own with one image, and what each row needs of it."""

    def __init__(self, daemon: Daemon, registry: Registry, reference: str, sizes: Sizes) -> None:
        self.daemon = daemon
        self.cri = daemon.cri
        self.registry = registry
        self.reference = reference
        self.sizes = sizes

    def pod(self) -> Pod:
        return Pod(self.cri, self.daemon.logs, self.reference)

    def up(self) -> Pod:
        """A pod with one running container."""
        pod = self.pod()
        pod.run("sleep", "3600")
        return pod

    @contextmanager
    def pods(self, count: int) -> Iterator[list[Pod]]:
        """So many pods with a container each."""
        with ThreadPoolExecutor(4) as threads:
            made = list(threads.map(lambda _: self.up(), range(count)))
            yield made
            list(threads.map(Pod.remove, made))

    def pod_up(self) -> list[Row]:
        model = self.pod()
        container = model.run("sleep", "3600")
        rootfs = self.daemon.root / "storage" / "containers" / container / "rootfs"
        conflist = self.daemon.folder / "cni" / "10-test.conflist"
        parts = byhand.Parts(self.daemon.folder / "byhand", conflist, self.cri.info(container)["runtimeSpec"], rootfs)
        hand, crisp = [], []
        for name, _ in zip(byhand.names(self.daemon.name), range(self.sizes.rounds), strict=False):
            parts.prepare(name)
            hand.append(timed(lambda name=name: parts.up(name)))
            parts.down(name)
            made: list[Pod] = []
            crisp.append(timed(lambda made=made: made.append(self.up())))
            made[0].remove()
        model.remove()
        return [ratio("pod up, by CNI ADD + runc create + runc start by hand", 1.25, crisp, hand)]

    def pod_sandbox(self) -> list[Row]:
        network = byhand.Network(self.daemon.folder / "cni" / "10-test.conflist")
        hand, crisp = [], []
        for name, _ in zip(byhand.names(f"{self.daemon.name}s"), range(2 * self.sizes.rounds), strict=False):
            network.prepare(name)
            hand.append(timed(lambda name=name: network.add(name)))
            network.delete(name)
            made: list[str] = []
            config = pod_config(self.daemon.logs, name)
            crisp.append(timed(lambda made=made, config=config: made.append(self.cri.run_pod(config))))
            self.cri.remove_pod(made[0])
        return [ratio("RunPodSandbox, by CNI ADD by hand", 1.25, crisp, hand)]

    def exec_sync(self) -> list[Row]:
        """By both OCI runtimes as they are configured: on a hybrid host crun's wrapper is on both sides."""
        found = []
        for handler in ("runc", "crun"):
            pod = Pod(self.cri, self.daemon.logs, self.reference, handler=handler)
            container = pod.run("sleep", "3600")
            runtime = byhand.runtime_of(self.daemon.config, self.daemon.run, handler, container)
            hand, crisp = [], []
            for _ in range(self.sizes.rounds * 2):
                hand.append(timed(lambda command=[*runtime, "exec", container, "true"]: byhand.execute(command)))
                crisp.append(timed(lambda container=container: self.cri.exec(container, "true")))
            pod.remove()
            found.append(ratio(f"ExecSync of true, by {handler} exec by hand", 1.25, crisp, hand))
        return found

    def streams(self) -> list[Row]:
        """There and back through `cat` in a container."""
        pod = self.pod()
        resources = pb.LinuxContainerResources(cpu_shares=1024)  # as `cat` by hand has them
        container = pod.run("sleep", "3600", resources=resources)
        hand, crisp = [], []
        for _ in range(3):
            hand.append(stream_speed.by_hand(self.sizes.streamed) / 1e6)
            url = self.cri.call("Exec", container_id=container, cmd=["cat"], stdin=True, stdout=True, stderr=True).url
            crisp.append(stream_speed.measured(url, self.sizes.streamed) / 1e6)
        pod.remove()
        speed, raw = statistics.median(crisp), statistics.median(hand)
        return [Row(what="bytes through Exec of cat on loopback", budget=200, measured=speed, unit="MB/s",
                    detail=f"{raw:.0f} MB/s by sockets and pipes by hand", at_least=True)]  # fmt: skip

    def eight_at_a_time(self) -> list[Row]:
        count = self.sizes.together
        made: list[Pod] = []
        alone = timed(lambda: made.extend(self.up() for _ in range(count)))
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(Pod.remove, made))
            made.clear()
            together = timed(lambda: made.extend(threads.map(lambda _: self.up(), range(count))))
            list(threads.map(Pod.remove, made))
        detail = f"{count / together:.1f} against {count / alone:.1f} pods per second"
        row = Row(
            what="pods per second, eight at a time by one at a time", budget=1.5, measured=alone / together, unit="x",
            detail=detail, at_least=True,
        )  # fmt: skip
        return [row]

    def lists(self) -> list[Row]:
        with self.pods(self.sizes.many) as pods:
            container = self.cri.list_containers(pod_sandbox_id=pods[0].id)[0].id
            calls: dict[str, Callable[[], object]] = {
                "Version": lambda: self.cri.call("Version"),
                "ListContainers": lambda: self.cri.call("ListContainers"),
                "ListPodSandbox": lambda: self.cri.call("ListPodSandbox"),
                "ContainerStatus": lambda: self.cri.call("ContainerStatus", container_id=container),
                "PodSandboxStatus": lambda: self.cri.call("PodSandboxStatus", pod_sandbox_id=pods[0].id),
            }
            medians = {}
            for name, call in calls.items():
                medians[name] = statistics.median(timed(call) for _ in range(self.sizes.calls)) * 1e3

            def both() -> None:
                self.cri.call("ListContainerStats")
                self.cri.call("ListPodSandboxStats")

            both()  # the first reading after a pause is waited for
            stats = statistics.median(timed(both) for _ in range(self.sizes.calls)) * 1e3
        floor = medians.pop("Version")
        return [
            Row(what=f"ListContainerStats and ListPodSandboxStats with {self.sizes.many} pods, median", budget=15,
                measured=stats, unit="ms"),
            *(
            Row(what=f"{name} with {self.sizes.many} pods, median", budget=1.0, measured=median, unit="ms",
                detail=f"Version: {floor:.2f} ms")
            for name, median in medians.items()
            ),
        ]  # fmt: skip

    def memory(self) -> list[Row]:
        idle = self.pss()
        with self.pods(self.sizes.some):
            busy = self.pss()
        return [
            Row(what="memory of all crisp processes, idle", budget=75, measured=sum(idle.values()), unit="MB",
                detail=", ".join(f"{name} {size:.0f}" for name, size in idle.items())),
            Row(what=f"memory with {self.sizes.some} pods", budget=85, measured=sum(busy.values()), unit="MB",
                detail=", ".join(f"{name} {size:.0f}" for name, size in busy.items())),
        ]  # fmt: skip

    def pss(self) -> dict[str, float]:
        """Proportional set size of each process, in MB."""
        named = {pid: name for name, pid in self.daemon.workers().items()}
        sizes: dict[str, float] = {}
        for process in self.daemon.own_processes():
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            kilobytes = int(rollup.split("\nPss:")[1].split()[0])
            name = named.get(process.pid, process.name())
            sizes[name] = sizes.get(name, 0) + kilobytes / 1000
        return sizes

    def killed_worker(self) -> list[Row]:
        pod = self.pod()
        container = pod.run("sleep", "3600")
        pids = self.daemon.workers()

        def ask() -> object:
            return self.cri.call("ReopenContainerLog", container_id=container)  # goes to the worker, and is repeated

        usual = statistics.median(timed(ask) for _ in range(5))
        psutil.Process(pids["runtime"]).kill()
        delayed = timed(ask)
        pod.remove()
        detail = f"ReopenContainerLog {delayed * 1e3:.0f} ms, else {usual * 1e3:.0f} ms"
        late = max(delayed - usual, 0) * 1e3
        return [Row(what="a killed runtime worker serves again", budget=50, measured=late, unit="ms", detail=detail)]

    def own_cpu(self) -> list[Row]:
        self.up().remove()
        before = self.cpu()
        for _ in range(self.sizes.rounds):
            self.up().remove()
        spent = (self.cpu() - before) / self.sizes.rounds
        return [Row(what="the daemon's own CPU for one pod's life", budget=40, measured=spent * 1e3, unit="ms")]

    def cpu(self) -> float:
        """Seconds of CPU of crisp's own processes, without the programs that they start."""
        return sum(sum(process.cpu_times()[:2]) for process in self.daemon.own_processes())

    def pull(self) -> list[Row]:
        """One large layer, then five with many files; images lie in memory, so that the disk decides nothing."""
        large = Layer()
        block = secrets.token_bytes(1 << 16)
        for number in range(self.sizes.layer >> 18):
            # Half of it noise, half of it text: about what a distribution's layer compresses to.
            large.file(f"data/{number % 100}/{number}", secrets.token_bytes(1 << 17) + block[: 1 << 10] * 128)
        layers = []
        for index in range(5):
            layer = Layer()
            for number in range(self.sizes.files // 5):
                layer.file(f"usr/{index}/{number % 80}/{number}", secrets.token_bytes(7 << 10) + block[: 1 << 10] * 14)
            layers.append(layer.tar())
        with self._in_memory():
            return [
                *self._pulled(f"a {self.sizes.layer >> 20} MB layer", [large.tar()]),
                *self._pulled(f"five layers with {self.sizes.files} files", layers),
            ]

    @contextmanager
    def _in_memory(self) -> Iterator[None]:
        folders = {"image/blobs": "crisp-image", "storage/layers": "root"}
        for folder, owner in folders.items():
            host.run("mount", "-t", "tmpfs", "-o", f"size=3g,mode=700,uid={owner},gid={owner}", "bench",
                     str(self.daemon.root / folder))  # fmt: skip
        try:
            self._restart_both()
            yield
        finally:
            for folder in folders:
                host.run("umount", "--lazy", str(self.daemon.root / folder))
            self._restart_both()

    def _restart_both(self) -> None:
        for name in ("image", "storage"):
            self.daemon.command("restart", name)

    def _pulled(self, what: str, layers: list[bytes]) -> list[Row]:
        built = image(layers)
        by_digest = self.registry.push(built, "big", "v1")
        urls = [f"http://{self.registry.address}/v2/big/blobs/{digest(blob)}" for blob in built.layers]
        hand, crisp, added = [], [], []
        for _ in range(3):
            folder = Path(tempfile.mkdtemp(prefix="bypull-", dir=self.daemon.root / "storage" / "layers"))
            hand.append(timed(lambda folder=folder: [byhand.pull(url, folder) for url in urls]))
            shutil.rmtree(folder)
            with self.memory_added("image", "storage") as peak:
                crisp.append(timed(lambda: self.cri.pull(by_digest, limit=600)))
            added.append(peak[0])
            self.cri.remove_image(by_digest)
        return [
            ratio(f"pull of {what}, by download + sha256 + isal + libarchive by hand", 1.5, crisp, hand),
            Row(what=f"memory that a pull of {what} adds to image and storage worker", budget=60,
                measured=max(added), unit="MB", detail="with the children that unpack"),
        ]  # fmt: skip

    @contextmanager
    def memory_added(self, *names: str) -> Iterator[list[float]]:
        """The most that workers and their children take meanwhile, beyond what they took before, in MB."""
        pids = self.daemon.workers()
        workers = [psutil.Process(pids[name]) for name in names]
        before, peak, over = _pss(workers), [0.0], threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                peak[0] = max(peak[0], _pss(workers) - before)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield peak
        finally:
            over.set()
            watching.join()

    def list_images(self) -> list[Row]:
        """With two hundred images of one layer."""
        layer = Layer()
        layer.file("x", b"x")
        tar = layer.tar()
        count = self.sizes.images
        for number in range(count):
            self.registry.push(image([tar], {"Cmd": [str(number)]}), "many", str(number))
            self.cri.pull(f"{self.registry.address}/many:{number}")
        found = self.cri.list_images()
        assert len(found) >= count
        median = statistics.median(timed(lambda: self.cri.call("ListImages")) for _ in range(self.sizes.calls)) * 1e3
        for one in found:
            if any("/many:" in tag for tag in one.repo_tags):
                self.cri.remove_image(one.id)
        return [Row(what=f"ListImages with {count} images, median", budget=2, measured=median, unit="ms")]


ROWS = (
    "memory",
    "pod_up",
    "pod_sandbox",
    "exec_sync",
    "streams",
    "eight_at_a_time",
    "lists",
    "list_images",
    "pull",
    "killed_worker",
    "own_cpu",
)
"""In this order: the memory of an idle daemon is taken first."""


def ratio(what: str, budget: float, crisp: list[float], hand: list[float]) -> Row:
    """Medians of both, as a ratio."""
    ours, theirs = statistics.median(crisp), statistics.median(hand)
    detail = f"{ours * 1e3:.0f} ms against {theirs * 1e3:.0f} ms"
    return Row(what=what, budget=budget, measured=ours / theirs, unit="x", detail=detail)


def _pss(workers: list[psutil.Process]) -> float:
    """Proportional set size of processes and their children, in MB."""
    total = 0
    for worker in workers:
        for process in (worker, *worker.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, OSError, IndexError):  # it ended meanwhile
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total += int(rollup.split("\nPss:")[1].split()[0])
    return total / 1000


def timed(act: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
