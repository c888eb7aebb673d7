"""A front whose clients are all one fake."""

from __future__ import annotations

from typing import cast

from kernel.bus.client import Client
from kernel.config.sections import Config
from kernel.front.context import Front
from kernel.front.memory.replica import Replica
from kernel.host.aio import Joins, Tasks


def assemble(fake: object, config: Config, boot_id: str) -> Front:
    """Make the parts of a front before `fake`, which answers for every worker."""
    tasks, client = Tasks(), cast("Client", fake)
    return Front(
        config=config,
        replica=Replica(client),
        supervisor=client,
        image=client,
        storage=client,
        network=client,
        runtime=client,
        stream=client,
        tasks=tasks,
        boot_id=boot_id,
        runs=Joins(tasks),
        creates=Joins(tasks),
        ends=Joins(tasks),
    )
