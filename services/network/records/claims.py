"""What only one pod may have: ports of the node, and addresses. Pure.

A port is claimed before the first plugin runs, an address when a plugin has given it; both until the pod's undoing
has begun. Addresses are compared within a network: two networks may give the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kernel.contracts.network import PortMapping
from kernel.errors import AlreadyExists, Internal
from kernel.ids import SandboxId
from services.network.documents import hostport


class Claims:
    """Who has what."""

    def __init__(self) -> None:
        self._ports: dict[SandboxId, tuple[str, tuple[PortMapping, ...]]] = {}
        self._addresses: dict[tuple[str, str], tuple[str, SandboxId]] = {}

    def claim_ports(self, sandbox: SandboxId, pod: str, mappings: Sequence[PortMapping]) -> None:
        """AlreadyExists names the pod that has one of them; none is claimed then."""
        for index, mapping in enumerate(mappings):
            for holder, (name, held) in self._ports.items():
                if holder != sandbox and any(hostport.meet(mapping, other) for other in held):
                    raise AlreadyExists(
                        f"port_mappings[{index}]: host port {hostport.text(mapping)} belongs to pod {name}"
                        f" (sandbox {holder[:13]})"
                    )
        if mappings:
            self._ports[sandbox] = (pod, tuple(mappings))

    def claim_addresses(
        self, sandbox: SandboxId, pod: str, network: str, addresses: Iterable[str], hosts: Callable[[str], bool]
    ) -> None:
        """Internal names the pod that has one of them, or the host, as `hosts` says; none is claimed then."""
        wanted = tuple(addresses)
        for address in wanted:
            name, holder = self._addresses.get((network, address), ("", sandbox))
            if holder != sandbox:
                raise Internal(
                    f"malformed result: address {address} belongs to pod {name} (sandbox {holder[:13]}), which lives"
                )
            if hosts(address):
                raise Internal(f"malformed result: address {address} is the host's own")
        for address in wanted:
            self._addresses[network, address] = (pod, sandbox)

    def release(self, sandbox: SandboxId) -> None:
        """Give up all that a pod has."""
        self._ports.pop(sandbox, None)
        self._addresses = {key: held for key, held in self._addresses.items() if held[1] != sandbox}
