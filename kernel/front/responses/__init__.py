"""Responses of the CRI, made of records and readings: contracts in, CRI out.

- views: PodSandbox, PodSandboxStatus, Container, ContainerStatus
- image_views: Image, ImageFsInfoResponse, the verbose part of ImageStatus
- stats_views: ContainerStats, PodSandboxStats and their parts
- container_events: ContainerEventResponse, and the events that a change makes
- list_filters: PodSandboxFilter, ContainerFilter
- provenance: the origin of each part of a container's OCI specification, for a verbose ContainerStatus
- rates: CPU time per second, from two readings
- protobuf_fields: serialised messages as fields of others

The floor: pure, above `kernel.front.requests` and `kernel.front.documents`, below `kernel.front.memory`.
"""
