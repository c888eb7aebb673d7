"""PodSandboxFilter and ContainerFilter: the records that a list has. Pure.

A field that is not set accepts every record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kernel.contracts.records import Container, Sandbox
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses.views import CONTAINER_STATES, SANDBOX_STATES


def pods_that_pass(records: Iterable[Sandbox], given: cri.PodSandboxFilter) -> Iterator[Sandbox]:
    """Yield the sandboxes that match PodSandboxFilter: id (its beginning is enough), state, label_selector."""
    for record in records:
        if given.id and not record.id.startswith(given.id):
            continue
        if given.HasField("state") and SANDBOX_STATES[record.state] != given.state.state:
            continue
        if _labels_match(record.labels, given.label_selector):
            yield record


def containers_that_pass(records: Iterable[Container], given: cri.ContainerFilter) -> Iterator[Container]:
    """Yield the containers that match ContainerFilter: id, pod_sandbox_id (beginnings), state, label_selector."""
    for record in records:
        if given.id and not record.id.startswith(given.id):
            continue
        if given.pod_sandbox_id and not record.sandbox_id.startswith(given.pod_sandbox_id):
            continue
        if given.HasField("state") and CONTAINER_STATES[record.state] != given.state.state:
            continue
        if _labels_match(record.labels, given.label_selector):
            yield record


def _labels_match(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Return whether label_selector accepts the labels: each of its keys has exactly its value."""
    return all(labels.get(key) == value for key, value in selector.items())
