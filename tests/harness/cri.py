"""A CRI client for tests: the generated stubs, defaults that a kubelet would send, and the few waits that tests share.

It uses nothing of crisp but the stubs of its .proto, so it works on any CRI socket.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from kernel.cri.generated import cri_pb2_grpc as stubs
from tests.harness import host

CALL_LIMIT = 60.0
_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 300),
            ("grpc.min_reconnect_backoff_ms", 50), ("grpc.max_receive_message_length", 64 << 20)]  # fmt: skip


class Cri:
    """Both services on one socket. A call waits for the socket, and has a deadline."""

    def __init__(self, socket: str) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=_OPTIONS)
        self.runtime = stubs.RuntimeServiceStub(self._channel)
        self.images = stubs.ImageServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def call(self, name, *, limit=CALL_LIMIT, wait_for_ready=True, **fields):
        """Call an RPC by name, with the fields of its request; `limit` is its deadline in seconds."""
        method = pb.DESCRIPTOR.services_by_name["RuntimeService"].methods_by_name.get(name)
        service = self.runtime if method else self.images
        method = method or pb.DESCRIPTOR.services_by_name["ImageService"].methods_by_name[name]
        request = getattr(pb, method.input_type.name)(**fields)
        return getattr(service, name)(request, timeout=limit * host.SLOWNESS, wait_for_ready=wait_for_ready)

    def status(self, verbose=False, **options):
        return self.call("Status", verbose=verbose, **options)

    # Images.
    def pull(self, reference: str, auth=None, **options) -> str:
        return self.call("PullImage", image=pb.ImageSpec(image=reference), auth=auth, **options).image_ref

    def image(self, reference: str):
        """Return the image, or None."""
        reply = self.call("ImageStatus", image=pb.ImageSpec(image=reference))
        return reply.image if reply.HasField("image") else None

    def list_images(self):
        return list(self.call("ListImages").images)

    def remove_image(self, reference: str) -> None:
        self.call("RemoveImage", image=pb.ImageSpec(image=reference))

    # Pods.
    def run_pod(self, config, handler: str = "", **options) -> str:
        return self.call("RunPodSandbox", config=config, runtime_handler=handler, **options).pod_sandbox_id

    def pod(self, sandbox: str):
        return self.call("PodSandboxStatus", pod_sandbox_id=sandbox).status

    def pod_info(self, sandbox: str):
        return json.loads(self.call("PodSandboxStatus", pod_sandbox_id=sandbox, verbose=True).info["info"])

    def list_pods(self, **filters):
        return list(self.call("ListPodSandbox", filter=pb.PodSandboxFilter(**filters)).items)

    def stop_pod(self, sandbox: str, **options) -> None:
        self.call("StopPodSandbox", pod_sandbox_id=sandbox, **options)

    def remove_pod(self, sandbox: str) -> None:
        """Stop and remove a pod, as the kubelet does."""
        self.stop_pod(sandbox)
        self.call("RemovePodSandbox", pod_sandbox_id=sandbox)

    # Containers.
    def create(self, sandbox: str, config, sandbox_config, **options) -> str:
        return self.call(
            "CreateContainer", pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config, **options
        ).container_id

    def start(self, container: str, **options) -> None:
        self.call("StartContainer", container_id=container, **options)

    def stop(self, container: str, grace: int = 10, **options) -> None:
        self.call("StopContainer", container_id=container, timeout=grace, **options)

    def remove(self, container: str, **options) -> None:
        self.call("RemoveContainer", container_id=container, **options)

    def container(self, container: str):
        return self.call("ContainerStatus", container_id=container).status

    def info(self, container: str):
        """Return the verbose status: pid, sandboxID, runtimeSpec."""
        return json.loads(self.call("ContainerStatus", container_id=container, verbose=True).info["info"])

    def pid(self, container: str) -> int:
        return int(self.info(container)["pid"])

    def list_containers(self, **filters):
        return list(self.call("ListContainers", filter=pb.ContainerFilter(**filters)).containers)

    def exec(self, container: str, *cmd: str, timeout: int = 20):
        return self.call("ExecSync", container_id=container, cmd=list(cmd), timeout=timeout)

    def output(self, container: str, *cmd: str) -> str:
        """Return the output of a command in a container; it must succeed."""
        done = self.exec(container, *cmd)
        assert done.exit_code == 0, f"{cmd}: {done.exit_code}: {done.stderr.decode()}"
        return done.stdout.decode()

    def wait_exit(self, container: str, limit: float = 30):
        """Return the container's status once it has exited."""
        host.until(
            f"container {container[:13]} exits",
            lambda: self.container(container).state == pb.CONTAINER_EXITED, limit,
        )  # fmt: skip
        return self.container(container)


class Pod:
    """A pod that a test runs, with the configuration that it was made of."""

    def __init__(self, cri: Cri, logs: Path, image: str, config=None, handler: str = "") -> None:
        self.cri = cri
        self.image = image
        self.config = config or pod_config(logs)
        self.id = cri.run_pod(self.config, handler)

    def create(self, *command: str, **fields) -> str:
        """Create a container of `command`, not started."""
        return self.cri.create(self.id, container_config(self.image, *command, **fields), self.config)

    def run(self, *command: str, **fields) -> str:
        """Create and start a container of `command`."""
        container = self.create(*command, **fields)
        self.cri.start(container)
        return container

    def shell(self, script: str, **fields) -> str:
        """Create and start a container that runs a shell script."""
        return self.run("sh", "-c", script, **fields)

    def result(self, script: str, **fields):
        """Return status and log lines (`stream`, `text`) of a shell script, once it has ended."""
        container = self.shell(script, **fields)
        status = self.cri.wait_exit(container)
        return status, self.log(container)

    def log(self, container: str) -> list[tuple[str, str]]:
        """Return the complete lines of a container's log as (stream, text)."""
        return whole_lines(Path(self.cri.container(container).log_path).read_text())

    def remove(self) -> None:
        self.cri.remove_pod(self.id)


def whole_lines(log: str) -> list[tuple[str, str]]:
    """Return a log in the CRI format as (stream, text) for each printed line; one that came in pieces is one."""
    lines: list[tuple[str, str]] = []
    begun: dict[str, str] = {}
    for _, stream, tag, text in map(parse_log_line, log.splitlines()):
        begun[stream] = begun.get(stream, "") + text
        if tag == "F":
            lines.append((stream, begun.pop(stream)))
    return lines + list(begun.items())


def parse_log_line(line: str) -> tuple[str, str, str, str]:
    """Return time, stream, tag and text of one line of the CRI log format."""
    time, stream, tag, text = line.split(" ", 3)
    assert stream in ("stdout", "stderr"), line
    assert tag in ("F", "P"), line
    return time, stream, tag, text


def pod_config(logs: Path, name: str = "", *, network=None, pid=None, ipc=None, **fields):
    """Return a kubelet's configuration of a pod; the given fields of PodSandboxConfig replace its own."""
    name = name or f"pod-{secrets.token_hex(3)}"
    uid = secrets.token_hex(16)
    folder = logs / f"default_{name}_{uid}"
    folder.mkdir(parents=True, exist_ok=True)
    options = pb.NamespaceOption(
        network=pb.POD if network is None else network,
        pid=pb.CONTAINER if pid is None else pid,
        ipc=pb.POD if ipc is None else ipc,
    )
    defaults = {
        "metadata": pb.PodSandboxMetadata(name=name, uid=uid, namespace="default", attempt=0),
        "hostname": "" if network == pb.NODE else name,
        "log_directory": str(folder),
        "labels": {"io.kubernetes.pod.name": name},
        "annotations": {"test/annotation": "kept"},
        "linux": pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(namespace_options=options)),
    }
    return pb.PodSandboxConfig(**{**defaults, **fields})


def container_config(image: str, *command: str, name: str = "", security=None, resources=None, **fields):
    """Return a kubelet's configuration of a container; the given fields of ContainerConfig replace its own."""
    name = name or f"c-{secrets.token_hex(3)}"
    defaults = {
        "metadata": pb.ContainerMetadata(name=name, attempt=0),
        "image": pb.ImageSpec(image=image),
        "command": list(command),
        "log_path": f"{name}_0.log",
        "labels": {"io.kubernetes.container.name": name},
        "linux": pb.LinuxContainerConfig(security_context=security, resources=resources),
    }
    return pb.ContainerConfig(**{**defaults, **fields})


@contextmanager
def refused(code: grpc.StatusCode, *words: str) -> Iterator[None]:
    """Check that the body's call fails with the code, and that the message contains the words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code() == code, f"{error.code()}: {error.details()}"
    for word in words:
        assert word in error.details(), f"{word!r} is not in {error.details()!r}"


def outcome(call):
    """Return the result of a call: its answer, or its error, if the interface permits both."""
    try:
        return call()
    except grpc.RpcError as error:
        return error


INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
