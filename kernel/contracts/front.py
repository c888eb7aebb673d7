"""The front's contract: only the built-in `hello`, for the supervisor's heartbeat. The front is called over gRPC."""

from __future__ import annotations

from kernel.contracts.definition import Contract

CONTRACT = Contract("front")
