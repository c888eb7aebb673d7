"""Every contract: structures frozen and strict, names unique, deadlines and repeats sensible."""

from __future__ import annotations

import msgspec
import pytest

from kernel.contracts import front, image, network, records, runtime, storage, stream, supervisor
from kernel.contracts.definition import Contract, Message, Method

CONTRACTS = [module.CONTRACT for module in (front, image, network, runtime, storage, stream, supervisor)]
METHODS = [
    pytest.param(method, id=f"{contract.worker}.{name}")
    for contract in CONTRACTS
    for name, method in contract.methods.items()
]


@pytest.mark.parametrize("method", METHODS)
def test_messages_are_frozen_strict_and_by_keyword(method: Method[Message, Message]) -> None:
    for message in (method.request, method.reply):
        config = message.__struct_config__
        assert config.frozen
        assert config.forbid_unknown_fields
        with pytest.raises(TypeError, match="positional"):
            message("a value")


@pytest.mark.parametrize("method", METHODS)
def test_a_watch_has_no_deadline_and_everything_else_has_one(method: Method[Message, Message]) -> None:
    assert method.watch is (method.deadline == 0)
    assert not method.watch or method.progress is not None
    assert not method.watch or method.repeat


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.worker)
def test_a_contract_is_named_for_its_module(contract: Contract) -> None:
    assert all(name == method.name for name, method in contract.methods.items())


def test_only_commands_are_not_repeated() -> None:
    once = [m.values[0].name for m in METHODS if not m.values[0].repeat]  # type: ignore[attr-defined]
    assert once == ["exec", "open_exec"]


def test_a_wrong_type_is_refused_by_its_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$.layers"):
        msgspec.convert({"container_id": "c", "layers": [1]}, storage.MountRequest)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (records.Container, {"id", "sandbox", "config", "image_id"}),
        (records.Exit, {"container", "exit_code", "finished_at", "oom_killed"}),
        (runtime.PodRequest, {"sandbox", "name", "uid"}),
        (runtime.CreateRequest, {"container", "sandbox", "name"}),
    ],
)
def test_what_is_on_disk_keeps_its_names(kind: type[Message], names: set[str]) -> None:
    """An update adopts pods and containers by what the version before it has written."""
    assert names <= set(kind.__struct_encode_fields__)
