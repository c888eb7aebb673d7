"""Claims on host ports and addresses, each of which only one pod may have. Pure.

A port is claimed before the first plugin runs, an address once a plugin has given it; both are kept until the pod's
removal has begun. Addresses are compared within a network: two networks may both give the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kernel.contracts.network import PortMapping
from kernel.errors import AlreadyExists, Internal
from kernel.ids import SandboxId, short
from services.network.documents import hostport


class Claims:
    """The claims of all pods."""

    def __init__(self) -> None:
        self._ports: dict[SandboxId, tuple[str, tuple[PortMapping, ...]]] = {}
        self._addresses: dict[tuple[str, str], tuple[str, SandboxId]] = {}

    def claim_ports(self, sandbox_id: SandboxId, pod: str, mappings: Sequence[PortMapping]) -> None:
        """Claim the host ports of all mappings for a pod, or none: AlreadyExists names the pod that has one of them."""
        for index, mapping in enumerate(mappings):
            for holder, (name, held) in self._ports.items():
                if holder != sandbox_id and any(hostport.overlap(mapping, other) for other in held):
                    raise AlreadyExists(
                        f"port_mappings[{index}]: host port {hostport.text(mapping)} belongs to pod {name}"
                        f" (sandbox {short(holder)})"
                    )
        if mappings:
            self._ports[sandbox_id] = (pod, tuple(mappings))

    def claim_addresses(
        self,
        sandbox_id: SandboxId,
        pod: str,
        network: str,
        addresses: Iterable[str],
        is_host_address: Callable[[str], bool],
    ) -> None:
        """Claim all addresses for a pod, or none.

        Internal names the pod that has one of them, or the address that is the host's own.
        """
        wanted = tuple(addresses)
        for address in wanted:
            name, holder = self._addresses.get((network, address), ("", sandbox_id))
            if holder != sandbox_id:
                raise Internal(
                    f"malformed result: address {address} belongs to pod {name} (sandbox {short(holder)}), which lives"
                )
            if is_host_address(address):
                raise Internal(f"malformed result: address {address} is the host's own")
        for address in wanted:
            self._addresses[network, address] = (pod, sandbox_id)

    def release(self, sandbox_id: SandboxId) -> None:
        """Release all claims of a pod."""
        self._ports.pop(sandbox_id, None)
        self._addresses = {key: held for key, held in self._addresses.items() if held[1] != sandbox_id}
