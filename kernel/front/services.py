"""Which spine serves which RPC: the front's table of contents."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor

from kernel.front import images, node
from kernel.front.context import Rpcs
from kernel.front.generated import cri_pb2, node_pb2

RUNTIME: Rpcs = {}
IMAGE: Rpcs = images.RPCS
NODE: Rpcs = node.RPCS

SERVICES: tuple[tuple[ServiceDescriptor, Rpcs], ...] = (
    (cri_pb2.DESCRIPTOR.services_by_name["RuntimeService"], RUNTIME),
    (cri_pb2.DESCRIPTOR.services_by_name["ImageService"], IMAGE),
    (node_pb2.DESCRIPTOR.services_by_name["Node"], NODE),
)
"""Every service on the socket, with its descriptor."""
