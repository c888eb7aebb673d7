"""The committed stubs are what the .proto files make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kernel.cri.generated import cri_pb2

ROOT = Path(__file__).resolve().parents[4]
GENERATED = ROOT / "kernel" / "cri" / "generated"


def test_the_stubs_are_up_to_date(tmp_path: Path) -> None:
    script = ROOT / "tests" / "tools" / "make_proto.py"
    subprocess.run([sys.executable, str(script), "--to", str(tmp_path)], check=True, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    kept = {path.name: path.read_text() for path in GENERATED.iterdir() if path.is_file()}
    assert made.keys() == kept.keys()
    stale = [name for name in made if made[name] != kept[name]]
    assert stale == [], "run python tests/tools/make_proto.py"


def test_the_interface_has_its_names_and_numbers() -> None:
    assert cri_pb2.DESCRIPTOR.package == "runtime.v1"
    fields = cri_pb2.ContainerConfig.DESCRIPTOR.fields_by_name
    assert (fields["CDI_devices"].number, fields["stop_signal"].number) == (17, 18)
    assert cri_pb2.ContainerStatus.DESCRIPTOR.fields_by_name["image_id"].number == 17
    assert cri_pb2.LinuxContainerSecurityContext.DESCRIPTOR.fields_by_name["supplemental_groups_policy"].number == 17
