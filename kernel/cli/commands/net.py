"""`crisp net`: each pod's interfaces, addresses, routes and host ports, as the kernel has them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import msgspec

from kernel.cli.connection import ask_network
from kernel.cli.context import Session
from kernel.cli.exits import Exit
from kernel.cli.output import Column, Row, short_id
from kernel.contracts.network import DESCRIBE, DescribeRequest, PodNetwork

COLUMNS = (
    Column("ID", "id", short_id),
    Column("POD", "pod"),
    Column("NETWORK", "network"),
    Column("WHAT", "what"),
    Column("VALUE", "value"),
)


def net(session: Session, options: Namespace) -> Exit:
    """List pods' networks; with --check the plugins are asked as well."""
    found = ask_network(session.paths, DESCRIBE, DescribeRequest(check=options.check)).pods
    pods = sorted(found, key=lambda pod: (pod.pod, pod.sandbox_id))
    if session.out.json:
        session.out.document([document(pod) for pod in pods])
    else:
        session.out.table(COLUMNS, [row for pod in pods for row in rows(pod)])
    return Exit.UNHEALTHY if any(pod.problem for pod in pods) else Exit.OK


def document(pod: PodNetwork) -> Row:
    """A pod as JSON shows it."""
    values = msgspec.to_builtins(pod)
    return {"id": values.pop("sandbox_id"), **values}


def rows(pod: PodNetwork) -> Iterator[Row]:
    """A pod as the table shows it, a line for each thing; its loopback and link-local routes are left out."""
    said = [
        ("interface", f"{interface.name} {' '.join((*interface.addresses, interface.mac))} mtu {interface.mtu}")
        for interface in pod.interfaces
        if interface.name != "lo"
    ]
    said += [
        ("route", f"{route.to}{f' via {route.via}' if route.via else ''} dev {route.interface}")
        for route in pod.routes
        if not route.to.startswith("fe80:")
    ]
    said += [("host port", port) for port in pod.host_ports]
    if pod.problem:
        said.append(("problem", pod.problem))
    for what, value in said:
        yield {"id": pod.sandbox_id, "pod": pod.pod, "network": pod.network, "what": what, "value": value}
