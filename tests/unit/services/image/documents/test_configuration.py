"""What a pull checks of an image configuration."""

import json

import pytest

from kernel.errors import Corrupt, FailedPrecondition
from services.image.documents import configuration
from services.image.documents.platforms import Platform

HEX = "0123456789abcdef" * 4
AMD64 = Platform(os="linux", architecture="amd64")


@pytest.mark.parametrize(
    "config",
    [
        {"rootfs": {"type": "layers", "diff_ids": []}},
        {"rootfs": {"type": "other", "diff_ids": [f"sha256:{HEX}"]}},
        {"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}},
        {"rootfs": {"type": "layers"}},
        {},
    ],
)
def test_a_configuration_lists_one_diff_id_per_layer(config: object) -> None:
    with pytest.raises(Corrupt):
        configuration.check(json.dumps(config).encode(), 1, AMD64, "x")


@pytest.mark.parametrize(
    ("of", "runs"),
    [
        ({}, True), ({"os": "linux", "architecture": "amd64"}, True), ({"architecture": "arm64"}, False),
        ({"os": "windows"}, False), ({"os": "linux", "architecture": "amd64", "created": "300000-01-01"}, True),
    ],
)  # fmt: skip
def test_a_configuration_for_other_machines_is_refused(of: dict[str, str], runs: bool) -> None:
    config = json.dumps({**of, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]}}).encode()
    if runs:
        configuration.check(config, 1, AMD64, "x")
    else:
        with pytest.raises(FailedPrecondition, match="not for linux/amd64"):
            configuration.check(config, 1, AMD64, "x")
