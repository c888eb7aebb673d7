"""Version, Status, RuntimeConfig, and what is not served yet."""

from __future__ import annotations

import importlib.metadata
import json

import grpc
import pytest

from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Cri, refused
from tests.harness.daemon import Daemon

NOT_YET = ["CheckpointPod", "RestorePod"]


def test_version_names_the_runtime(cri: Cri) -> None:
    version = cri.call("Version", version="v1")
    assert version.runtime_name == "crisp"
    assert version.runtime_version == importlib.metadata.version("crisp"), "the package has another version"
    assert version.runtime_api_version == "v1"
    assert version.version
    assert version.runtime_version


def test_status_is_ready_with_handlers_and_features(cri: Cri) -> None:
    status = cri.status()
    conditions = {one.type: one for one in status.status.conditions}
    assert conditions["RuntimeReady"].status
    assert conditions["NetworkReady"].status
    handlers = {handler.name for handler in status.runtime_handlers}
    assert {"", "runc", "crun"} <= handlers
    assert status.features.supplemental_groups_policy


def test_verbose_status_is_json_and_plain_status_has_none(cri: Cri) -> None:
    assert not cri.status().info
    info = cri.status(verbose=True).info
    assert info
    for value in info.values():
        assert isinstance(json.loads(value), (dict, list, str, int, float))


def test_runtime_config_names_the_cgroup_driver(cri: Cri) -> None:
    assert cri.call("RuntimeConfig").linux.cgroup_driver == pb.CGROUPFS


@pytest.mark.parametrize("name", NOT_YET)
def test_what_is_not_served_says_so_by_name(cri: Cri, name: str) -> None:
    with refused(grpc.StatusCode.UNIMPLEMENTED, name):
        cri.call(name)


def test_without_a_network_configuration_status_says_why(daemon: Daemon) -> None:
    conflist = daemon.folder / "cni" / "10-test.conflist"
    kept = conflist.read_text()
    conflist.unlink()
    try:

        def network():
            return {one.type: one for one in daemon.cri.status().status.conditions}["NetworkReady"]

        host.until("NetworkReady turns false", lambda: not network().status)
        assert network().reason
        assert str(daemon.folder / "cni") in network().message
        assert {one.type: one.status for one in daemon.cri.status().status.conditions}["RuntimeReady"]
    finally:
        conflist.write_text(kept)
    host.until("NetworkReady turns true again", lambda: network().status)
