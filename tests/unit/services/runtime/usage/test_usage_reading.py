"""Reading of cgroups that are folders of a test, of processes of its own and of namespaces that have gone."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from kernel.config.sections import Config
from kernel.ids import ContainerId, SandboxId
from services.runtime.cgroups.hierarchies import Hierarchies
from services.runtime.usage import usage_reading
from services.runtime.usage.usage_reading import ContainerPlace, PodPlace, Reader

POD, CONTAINER = SandboxId("a" * 64), ContainerId("b" * 64)


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    folder = tmp_path / "cgroup" / "pod" / "container"
    (folder / "nested").mkdir(parents=True)
    (folder / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (folder / "nested" / "cgroup.procs").write_text("999999999\n")
    (folder / "memory.current").write_text("4096\n")
    (tmp_path / "cgroup" / "pod" / "memory.current").write_text("8192\n")
    return tmp_path / "cgroup"


def reader(unified: Path, tmp_path: Path) -> Reader:
    paths = Config(root=str(tmp_path / "root")).paths
    paths.containers.mkdir(parents=True)
    return Reader(Hierarchies(unified=unified, v1={}), paths)


def place(netns: Path | None = None) -> PodPlace:
    inside = ContainerPlace(container_id=CONTAINER, cgroup="/pod/container", pid=os.getpid())
    return PodPlace(sandbox_id=POD, cgroup="/pod", netns=netns, pause_pid=7, containers=(inside,))


def test_a_pod_is_read_with_its_containers(unified: Path, tmp_path: Path) -> None:
    found = reader(unified, tmp_path).read([place()], detail=False)
    (pod,) = found.pods
    (container,) = pod.containers
    assert (pod.sandbox_id, pod.usage.memory, pod.processes, pod.interfaces) == (POD, 8192, 3, None)
    assert (container.container_id, container.usage.memory, container.processes) == (CONTAINER, 4096, 2)
    assert container.detail is None
    assert found.writable_layers is None


def test_detail_looks_at_processes_and_the_file_system(unified: Path, tmp_path: Path) -> None:
    found = reader(unified, tmp_path).read([place()], detail=True)
    detail = found.pods[0].containers[0].detail
    assert detail is not None
    assert detail.file_descriptors >= 3
    assert detail.open_files_limit is None or detail.open_files_limit > 0
    assert found.writable_layers is not None
    assert found.writable_layers.bytes > 0


def test_what_has_gone_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cgroup").mkdir()
    found = reader(tmp_path / "cgroup", tmp_path).read([place(tmp_path / "gone")], detail=True)
    (pod,) = found.pods
    assert (pod.usage.cpu, pod.usage.memory, pod.processes, pod.interfaces) == (None, None, 1, ())


def test_a_pin_that_lost_its_namespace_is_no_error(unified: Path, tmp_path: Path) -> None:
    (tmp_path / "pin").touch()
    read: list[object] = []
    work = threading.Thread(
        target=lambda: read.append(reader(unified, tmp_path).read([place(tmp_path / "pin")], detail=False).pods)
    )
    work.start()
    work.join(10)
    assert len(read) == 1


@pytest.mark.parametrize(("kilobytes", "name"), [(2048, "2MB"), (1048576, "1GB"), (64, "64KB")])
def test_page_sizes_are_spelled_as_cgroup_files_are(kilobytes: int, name: str) -> None:
    assert usage_reading.page_size(kilobytes) == name
