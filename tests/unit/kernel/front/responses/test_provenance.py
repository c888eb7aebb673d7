from __future__ import annotations

from kernel.config.sections import Handler, RuntimeSection
from kernel.contracts.oci import ImageConfig
from kernel.cri.generated import cri_pb2 as cri
from kernel.front.responses import provenance

SPEC: dict[str, object] = {
    "process": {"env": ["PATH=/bin", "A=1", "B=2", "C=3"]},
    "mounts": [{"destination": "/proc"}, {"destination": "/data"}, {"destination": "/vol"}],
    "annotations": {"run.oci/x": "1", "run.oci/y": "2", "io.container.manager": "crisp"},
    "linux": {"resources": {"cpu": {"shares": 2}, "pids": {"limit": 5}, "devices": []}, "maskedPaths": ["/proc/kcore"]},
    "hooks": {"prestart": []},
}
CONFIG = cri.ContainerConfig(
    command=["sh"],
    envs=[cri.KeyValue(key="A", value=b"1")],
    mounts=[cri.Mount(container_path="/data", host_path="/srv")],
    annotations={"run.oci/x": "1"},
    linux=cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(cpu_shares=2)),
)
IMAGE = ImageConfig(env=("A=0", "B=2"), working_dir="/srv", volumes=("/vol",))
SETTINGS = RuntimeSection(
    default_handler="r", handlers={"r": Handler(path="/r", default_annotations={"run.oci/y": "2"})},
    default_env=("C=3",), default_pids_limit=5,
)  # fmt: skip


def test_each_part_names_whoever_said_it() -> None:
    found = provenance.of(SPEC, CONFIG, cri.PodSandboxConfig(), IMAGE, SETTINGS, "")
    expected = {
        "process.args": "request", "process.cwd": "image", "process.user": "default",
        "process.env.PATH": "default", "process.env.A": "request", "process.env.B": "image",
        "process.env.C": "configuration", "process.capabilities": "configuration",
        "mounts./proc": "default", "mounts./data": "request", "mounts./vol": "image",
        "annotations.run.oci/x": "request", "annotations.run.oci/y": "configuration",
        "annotations.io.container.manager": "default",
        "linux.resources.cpu": "request", "linux.resources.pids": "configuration",
        "linux.resources.devices": "default", "linux.maskedPaths": "default", "hooks": "configuration",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert "linux.seccomp" not in found
