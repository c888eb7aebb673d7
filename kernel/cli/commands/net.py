"""`crisp net`: each pod's interfaces, addresses, routes and host ports, read from the kernel."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import msgspec

from kernel.cli.context import Context
from kernel.cli.daemon_client import ask_network
from kernel.cli.exit_status import Exit
from kernel.cli.output import Column, Row, short_id
from kernel.contracts.network import DESCRIBE, DescribeRequest, PodNetwork

COLUMNS = (
    Column("ID", "id", short_id),
    Column("POD", "pod"),
    Column("NETWORK", "network"),
    Column("WHAT", "what"),
    Column("VALUE", "value"),
)


def net(context: Context, options: Namespace) -> Exit:
    """List pods' networks; with --check the plugins check them as well."""
    found = ask_network(context.paths, DESCRIBE, DescribeRequest(check=options.check)).pods
    pods = sorted(found, key=lambda pod: (pod.pod, pod.sandbox_id))
    if context.out.json:
        context.out.document([document(pod) for pod in pods])
    else:
        context.out.table(COLUMNS, [row for pod in pods for row in rows(pod)])
    return Exit.UNHEALTHY if any(pod.problem for pod in pods) else Exit.OK


def document(pod: PodNetwork) -> Row:
    """Return a pod's network for JSON."""
    values = msgspec.to_builtins(pod)
    return {"id": values.pop("sandbox_id"), **values}


def rows(pod: PodNetwork) -> Iterator[Row]:
    """Yield the lines of the table for one pod, without its loopback interface and link-local routes."""
    lines = [
        ("interface", f"{interface.name} {' '.join((*interface.addresses, interface.mac))} mtu {interface.mtu}")
        for interface in pod.interfaces
        if interface.name != "lo"
    ]
    lines += [
        ("route", f"{route.to}{f' via {route.via}' if route.via else ''} dev {route.interface}")
        for route in pod.routes
        if not route.to.startswith("fe80:")
    ]
    lines += [("host port", port) for port in pod.host_ports]
    if pod.problem:
        lines.append(("problem", pod.problem))
    for what, value in lines:
        yield {"id": pod.sandbox_id, "pod": pod.pod, "network": pod.network, "what": what, "value": value}
