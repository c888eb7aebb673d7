"""The network worker: pods' network namespaces and CNI.

The namespace of a sandbox lies at `Paths.netns`. Errors: FailedPrecondition (no network configuration is ready;
the message says why), Internal (a plugin failed; the message is the plugin's own, with its name and what it was
asked), DeadlineExceeded (a plugin hung and was ended), InvalidInput (port mappings), AlreadyExists (a host port that
another pod has).
"""

from __future__ import annotations

from typing import Literal

from kernel.contracts.contract import Contract, Message, Method, Nothing
from kernel.ids import SandboxId, SessionId


class PortMapping(Message, frozen=True, kw_only=True):
    """CRI PortMapping, checked: ports 1 to 65535."""

    protocol: Literal["tcp", "udp", "sctp"]
    container_port: int
    host_port: int
    host_ip: str = ""


class AttachRequest(Message, frozen=True, kw_only=True):
    """A pod that wants a network namespace of its own on the default network."""

    sandbox: SandboxId
    name: str
    namespace: str
    uid: str
    port_mappings: tuple[PortMapping, ...] = ()
    annotations: dict[str, str] = {}
    dns_servers: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    cgroup_parent: str = ""
    user_namespace: bool = False
    """The pod has one: its network namespace was made with it by the runtime (`Paths.pod_namespace`)."""


class Attached(Message, frozen=True, kw_only=True):
    """The pod's addresses, primary first, without prefix length."""

    ips: tuple[str, ...]


class SandboxRequest(Message, frozen=True, kw_only=True):
    """A sandbox's network namespace."""

    sandbox: SandboxId


class DialRequest(Message, frozen=True, kw_only=True):
    """A connection into a pod for a port-forward."""

    session: SessionId
    connection: int
    """The stream process's own number of it."""
    sandbox: SandboxId
    port: int
    host_network: bool = False
    """The pod has no network namespace of its own: the port is the host's."""


class ConfigureRequest(Message, frozen=True, kw_only=True):
    """What the kubelet says of the node's part of the pod network."""

    pod_cidrs: tuple[str, ...]


class DescribeRequest(Message, frozen=True, kw_only=True):
    """What to say of pods' networks."""

    check: bool = False
    """Whether the plugins are asked by CHECK."""


class Interface(Message, frozen=True, kw_only=True):
    """An interface in a pod, as the kernel has it."""

    name: str
    mac: str
    mtu: int
    addresses: tuple[str, ...]
    """With their prefix length."""


class Route(Message, frozen=True, kw_only=True):
    """A route in a pod, as the kernel has it."""

    to: str
    via: str
    """Empty for what is on the link."""
    interface: str


class PodNetwork(Message, frozen=True, kw_only=True):
    """A pod's network."""

    sandbox: SandboxId
    pod: str
    """Namespace and name."""
    network: str
    ips: tuple[str, ...]
    """As its plugins gave them, the primary one first."""
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    host_ports: tuple[str, ...] = ()
    """`127.0.0.1:8080/tcp -> 80`."""
    problem: str = ""
    """What is not as it should be; empty where all is well."""


class Described(Message, frozen=True, kw_only=True):
    pods: tuple[PodNetwork, ...]


class Readiness(Message, frozen=True, kw_only=True):
    """CRI NetworkReady: a reason in CamelCase and a message for people where it is not."""

    ready: bool
    reason: str = ""
    message: str = ""


class Inventory(Message, frozen=True, kw_only=True):
    """What the network worker holds on the host."""

    namespaces: tuple[SandboxId, ...]
    """Pinned namespaces."""
    attachments: tuple[SandboxId, ...]
    """Sandboxes with an ADD begun and no DEL done."""
    leases: dict[str, str]
    """host-local leases below /var/lib/cni whose container id is one of ours: address to sandbox id."""


ATTACH = Method("attach", AttachRequest, Attached, deadline=120)
"""Make the namespace and run ADD; attached already is success, with the same addresses. An ADD that was cut off
is undone with DEL and made again. After an error nothing is left."""
DETACH = Method("detach", SandboxRequest, Nothing, deadline=120)
"""Run DEL and remove the namespace; gone already is success."""
CHECK_READY = Method("check_ready", Nothing, Readiness, deadline=10)
WATCH_READY = Method("watch_ready", Nothing, Nothing, deadline=0, progress=Readiness, watch=True)
"""The readiness now, then each change."""
INVENTORY = Method("inventory", Nothing, Inventory, deadline=30)
CONFIGURE = Method("configure", ConfigureRequest, Nothing, deadline=30)
"""Make the network's configuration of its template; nothing happens without one, or beside another's configuration."""
DESCRIBE = Method("describe", DescribeRequest, Described, deadline=120)
"""Every attached pod's network, read from its namespace."""
DIAL = Method("dial", DialRequest, Nothing, deadline=30)
"""Connect to the port on 127.0.0.1, then ::1, and hand the connection to the stream process. InvalidInput for a port
that is none, NotFound for a pod without its namespace, FailedPrecondition with the reason where nobody takes the
connection, Unavailable where the stream process does not take it."""

CONTRACT = Contract("network", ATTACH, DETACH, CHECK_READY, WATCH_READY, INVENTORY, CONFIGURE, DESCRIBE, DIAL)
