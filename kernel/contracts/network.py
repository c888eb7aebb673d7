"""The network worker: pods' network namespaces and CNI (cni-spec, SPEC.md).

The namespace of a sandbox lies at `Paths.netns`.

Errors: FailedPrecondition (no network configuration is ready; the message has the reason), Internal (a plugin failed;
the message is the plugin's own, with its name and the command), DeadlineExceeded (a plugin hung and was ended),
InvalidInput (port mappings), AlreadyExists (a host port that another pod has).
"""

from __future__ import annotations

from typing import Literal

from kernel.contracts.definition import Contract, Message, Method, Nothing
from kernel.ids import SandboxId, SessionId


class PortMapping(Message, frozen=True, kw_only=True):
    """A forwarded port (CRI PortMapping), checked."""

    protocol: Literal["tcp", "udp", "sctp"]
    container_port: int
    """1 to 65535."""
    host_port: int
    """1 to 65535."""
    host_ip: str = ""
    """An address of the host; all addresses if empty."""


class AttachRequest(Message, frozen=True, kw_only=True):
    """A pod that gets a network namespace of its own on the default network (CRI PodSandboxConfig)."""

    sandbox_id: SandboxId
    name: str
    """The pod's name."""
    namespace: str
    """The pod's Kubernetes namespace."""
    uid: str
    """The pod's uid in Kubernetes."""
    port_mappings: tuple[PortMapping, ...] = ()
    annotations: dict[str, str] = {}
    """The pod's annotations; `cni.crisp/ips` and `cni.crisp/mac` go to plugins with these capabilities."""
    dns_servers: tuple[str, ...] = ()
    """Name servers; this and the next two are for plugins with the capability `dns`."""
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    cgroup_parent: str = ""
    """The pod's cgroup, for plugins with the capability `cgroupPath`."""
    user_namespace: bool = False
    """Whether the pod has a user namespace. If so, the runtime worker has made its network namespace together with the
    user namespace (`Paths.pod_namespace`)."""


class Attached(Message, frozen=True, kw_only=True):
    """The addresses of a pod on its network."""

    ips: tuple[str, ...]
    """Addresses without prefix length, the primary one first."""


class SandboxRequest(Message, frozen=True, kw_only=True):
    """A sandbox by id."""

    sandbox_id: SandboxId


class DialRequest(Message, frozen=True, kw_only=True):
    """A connection into a pod, for a port-forward."""

    session: SessionId
    connection: int
    """The number that the stream process gave the connection."""
    sandbox_id: SandboxId
    port: int
    """TCP port, 1 to 65535."""
    host_network: bool = False
    """Whether the port is the host's: the pod has no network namespace of its own."""


class ConfigureRequest(Message, frozen=True, kw_only=True):
    """The node's part of the pod network (CRI UpdateRuntimeConfig)."""

    pod_cidrs: tuple[str, ...]
    """IPv4 or IPv6 networks with their prefix length."""


class DescribeRequest(Message, frozen=True, kw_only=True):
    """The thoroughness of a look at the pods' networks."""

    check: bool = False
    """Whether to run the plugins with the command CHECK."""


class Interface(Message, frozen=True, kw_only=True):
    """An interface in a pod, as the kernel reports it."""

    name: str
    mac: str
    """Six pairs of hex digits with colons."""
    mtu: int
    """Bytes."""
    addresses: tuple[str, ...]
    """Addresses with their prefix length."""


class Route(Message, frozen=True, kw_only=True):
    """A route in a pod, as the kernel reports it."""

    to: str
    """The network that the route leads to, with its prefix length."""
    via: str
    """The gateway's address; empty if the network is on the link."""
    interface: str


class PodNetwork(Message, frozen=True, kw_only=True):
    """The network of one pod."""

    sandbox_id: SandboxId
    pod: str
    """The pod's Kubernetes namespace and name."""
    network: str
    """Name of the CNI configuration by which it was attached."""
    ips: tuple[str, ...]
    """Addresses in the order of the plugins' result, the primary one first."""
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    host_ports: tuple[str, ...] = ()
    """Forwarded ports, each as `127.0.0.1:8080/tcp -> 80`."""
    problem: str = ""
    """A fault of the pod's network; empty if there is none."""


class Described(Message, frozen=True, kw_only=True):
    """The networks of all attached pods."""

    pods: tuple[PodNetwork, ...]


class Readiness(Message, frozen=True, kw_only=True):
    """Whether a pod could join the network now (CRI RuntimeCondition, NetworkReady)."""

    ready: bool
    reason: str = ""
    """A reason in CamelCase, for programs; empty if the network is ready."""
    message: str = ""
    """A reason for people; empty if the network is ready."""


class Inventory(Message, frozen=True, kw_only=True):
    """The things that the network worker holds on the host."""

    namespaces: tuple[SandboxId, ...]
    """Sandboxes whose network namespace is pinned."""
    attachments: tuple[SandboxId, ...]
    """Sandboxes for which ADD has begun and DEL has not ended."""
    leases: dict[str, str]
    """Sandbox id by address: the leases of the plugin host-local, below /var/lib/cni, that belong to sandboxes of this
    daemon."""


ATTACH = Method("attach", AttachRequest, Attached, deadline=120)
"""Make the namespace and run the plugins with ADD. A sandbox that is attached already is success, with the same
addresses. An ADD that was cut off is undone with DEL and run again. After an error nothing is left."""
DETACH = Method("detach", SandboxRequest, Nothing, deadline=120)
"""Run the plugins with DEL and remove the namespace. A sandbox that does not exist is success."""
CHECK_READY = Method("check_ready", Nothing, Readiness, deadline=10)
"""Return whether a pod could join the network now."""
WATCH_READY = Method("watch_ready", Nothing, Nothing, deadline=0, progress=Readiness, watch=True)
"""Report the readiness now, then each change."""
INVENTORY = Method("inventory", Nothing, Inventory, deadline=30)
"""List what the worker holds on the host, for start-up and `crisp doctor`."""
CONFIGURE = Method("configure", ConfigureRequest, Nothing, deadline=30)
"""Make the network's configuration from the template `network.config_template`. Does nothing if there is no template,
or if the folder has a configuration that crisp did not make."""
DESCRIBE = Method("describe", DescribeRequest, Described, deadline=120)
"""Read every attached pod's network from its namespace."""
DIAL = Method("dial", DialRequest, Nothing, deadline=30)
"""Connect to the port on 127.0.0.1, then on ::1, and hand the connection to the stream process. InvalidInput if the
port is not one, NotFound if the pod's namespace does not exist, FailedPrecondition with the reason if nothing accepts
the connection, Unavailable if the stream process does not take it."""

CONTRACT = Contract("network", ATTACH, DETACH, CHECK_READY, WATCH_READY, INVENTORY, CONFIGURE, DESCRIBE, DIAL)
