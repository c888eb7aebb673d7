"""`crisp run`: a pod with one container, as the kubelet would make them."""

from __future__ import annotations

import re
import secrets
import sys
import uuid
from argparse import Namespace

from kernel.cli import log_files, lookup
from kernel.cli.commands import containers, images, pods
from kernel.cli.context import Context
from kernel.cli.exit_status import Exit
from kernel.contracts.oci import MASKED_PATHS, READONLY_PATHS
from kernel.cri.generated import cri_pb2
from kernel.errors import CrispError, InvalidInput
from kernel.ids import short

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_PUBLISH = re.compile(
    r"(?:(?P<ip>[0-9.]+|\[[0-9A-Fa-f:]+\]):)?(?P<host>[0-9]{1,5}):(?P<container>[0-9]{1,5})"
    r"(?:/(?P<protocol>tcp|udp|sctp))?",
    re.ASCII,
)
_PROTOCOLS = {"tcp": cri_pb2.TCP, "udp": cri_pb2.UDP, "sctp": cri_pb2.SCTP}
_PID_MODES = {"pod": cri_pb2.POD, "container": cri_pb2.CONTAINER, "host": cri_pb2.NODE}
_MAKE_SECONDS = 300


def run(context: Context, options: Namespace) -> int:
    """Make and start a pod with a container.

    With --rm: wait, show the log, remove the pod, and exit with the container's status.
    """
    if options.rm and options.detach:
        raise InvalidInput("--rm waits for the end and --detach does not")
    pod_config = pod(options)
    container_config = container(options, pod_config.metadata.name)
    image_id = _image(context, options.image)
    container_config.image.CopyFrom(cri_pb2.ImageSpec(image=image_id, user_specified_image=options.image))
    folder = pods.logs_of(context, pod_config.metadata)
    folder.mkdir(parents=True, mode=0o750)
    pod_config.log_directory = str(folder)
    daemon = context.daemon
    made = cri_pb2.RunPodSandboxRequest(config=pod_config, runtime_handler=options.handler)
    pod_id = ""
    try:
        pod_id = daemon.call(daemon.runtime.RunPodSandbox, made, _MAKE_SECONDS).pod_sandbox_id
        request = cri_pb2.CreateContainerRequest(
            pod_sandbox_id=pod_id, config=container_config, sandbox_config=pod_config
        )
        container_id = daemon.call(daemon.runtime.CreateContainer, request, _MAKE_SECONDS).container_id
        start = cri_pb2.StartContainerRequest(container_id=container_id)
        daemon.call(daemon.runtime.StartContainer, start, _MAKE_SECONDS)
    except (CrispError, KeyboardInterrupt):
        _discard(context, pod_id)
        if not pod_id:
            folder.rmdir()
        raise
    if options.rm:
        return _attend(context, pod_id, container_id)
    if context.out.json:
        context.out.document({"name": pod_config.metadata.name, "pod": pod_id, "container": container_id})
    else:
        context.out.line(f"pod        {pod_id}")
        context.out.line(f"container  {container_id}")
    return Exit.OK


def pod(options: Namespace) -> cri_pb2.PodSandboxConfig:
    """Return the configuration of the pod that the options describe."""
    name = options.name or default_name(options.image)
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"--name {name!r} is not a name", hint="up to 63 lower-case letters, digits and dashes")
    namespaces = cri_pb2.NamespaceOption(
        network=cri_pb2.NODE if options.host_network else cri_pb2.POD, pid=_PID_MODES[options.pid]
    )
    return cri_pb2.PodSandboxConfig(
        metadata=cri_pb2.PodSandboxMetadata(name=name, uid=str(uuid.uuid4()), namespace="crisp"),
        hostname="" if options.host_network else name,
        port_mappings=[publish(text) for text in options.publish],
        linux=cri_pb2.LinuxPodSandboxConfig(
            security_context=cri_pb2.LinuxSandboxSecurityContext(namespace_options=namespaces)
        ),
    )


def container(options: Namespace, name: str) -> cri_pb2.ContainerConfig:
    """Return the configuration of the container that the options describe, without its image."""
    namespaces = cri_pb2.NamespaceOption(
        network=cri_pb2.NODE if options.host_network else cri_pb2.POD, pid=_PID_MODES[options.pid]
    )
    return cri_pb2.ContainerConfig(
        metadata=cri_pb2.ContainerMetadata(name=name),
        args=options.command,
        envs=[environment(text) for text in options.env],
        mounts=[volume(text) for text in options.volume],
        log_path=f"{name}.log",
        linux=cri_pb2.LinuxContainerConfig(
            security_context=cri_pb2.LinuxContainerSecurityContext(
                namespace_options=namespaces, masked_paths=MASKED_PATHS, readonly_paths=READONLY_PATHS
            )
        ),
    )


def default_name(image: str) -> str:
    """Return a new name made of the image's."""
    last = re.split(r"[/]", image.partition("@")[0])[-1].partition(":")[0]
    stem = re.sub(r"[^a-z0-9-]+", "-", last.lower()).strip("-")[:40].strip("-")
    return f"{stem or 'pod'}-{secrets.token_hex(3)}"


def environment(text: str) -> cri_pb2.KeyValue:
    """Parse `NAME=value`."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidInput(f"--env {text!r} is not NAME=value")
    return cri_pb2.KeyValue(key=name, value=value.encode())


def volume(text: str) -> cri_pb2.Mount:
    """Parse `host:container[:ro]`, both absolute paths."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise InvalidInput(f"--volume {text!r} is not HOST:CONTAINER or HOST:CONTAINER:ro")
    if not all(path.startswith("/") for path in parts[:2]):
        raise InvalidInput(f"--volume {text!r}: both paths must be absolute")
    return cri_pb2.Mount(host_path=parts[0], container_path=parts[1], readonly=parts[2:] == ["ro"])


def publish(text: str) -> cri_pb2.PortMapping:
    """Parse `[address:]host:container[/protocol]`."""
    match = _PUBLISH.fullmatch(text)
    if not match or not all(0 < int(match[side]) < 65536 for side in ("host", "container")):
        raise InvalidInput(f"--publish {text!r} is not [ADDRESS:]HOST:CONTAINER[/tcp|udp|sctp]")
    return cri_pb2.PortMapping(
        protocol=_PROTOCOLS[match["protocol"] or "tcp"],
        host_port=int(match["host"]),
        container_port=int(match["container"]),
        host_ip=(match["ip"] or "").strip("[]"),
    )


def _image(context: Context, name: str) -> str:
    """Return the id of an image; it is pulled if it is not on this node."""
    daemon = context.daemon
    request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=name))
    found = daemon.call(daemon.images.ImageStatus, request)
    return found.image.id if found.HasField("image") else images.pull_one(context, name)


def _attend(context: Context, pod_id: str, container_id: str) -> int:
    """Show the log until the end, then remove the pod. Returns the container's exit code, or 130 after Ctrl-C."""
    try:
        printer = log_files.Printer(sys.stdout.buffer, sys.stderr.buffer)
        with log_files.Reader(containers.log_path(context, container_id)) as reader:
            return containers.follow(context, container_id, reader, printer)
    except KeyboardInterrupt:
        return 130
    finally:
        _discard(context, pod_id)


def _discard(context: Context, pod_id: str) -> None:
    """Remove a pod in any state; a failure is only shown."""
    if not pod_id:
        return
    one = lookup.Named(id=pod_id, name=pod_id, live=True, created_at=0, is_pod=True)
    try:
        pods.remove_one(context, one, force=True)
    except CrispError as error:
        context.out.note(f"crisp: pod {short(pod_id)} stays: {error}")
