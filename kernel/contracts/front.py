"""The front on the bus: only the built-in `hello`, for the supervisor's heartbeat. Its work comes over gRPC."""

from __future__ import annotations

from kernel.contracts.contract import Contract

CONTRACT = Contract("front")
