"""Make the Python stubs in kernel/cri/generated from every .proto file of the CRI.

Run as `python tests/tools/make_proto.py`; the stubs are committed, and a test makes them again and compares. With
`--to FOLDER` they are written there instead. Needs grpcio-tools and mypy-protobuf (the extra `test`).
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
CRI = ROOT / "kernel" / "cri"
GENERATED = CRI / "generated"
_MARK = '"""The stubs of the .proto files of the CRI, made by tests/tools/make_proto.py; not edited by hand."""\n'


def make(target: Path) -> None:
    """Write the stubs of every .proto file to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    sources = sorted(CRI.rglob("*.proto"))
    names = [path.name for path in sources]
    plugins = Path(sys.executable).parent
    status = protoc.main(
        [
            "protoc",
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            *(f"--proto_path={folder}" for folder in sorted({path.parent for path in sources})),
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *names,
        ]
    )
    if status:
        sys.exit(status)
    modules = "|".join(re.escape(Path(name).stem) + "_pb2" for name in names)
    for path in [*target.glob("*_pb2*.py"), *target.glob("*_pb2*.pyi")]:
        path.write_text(_relative(path.read_text(), modules))
    (target / "__init__.py").write_text(_MARK)


def _relative(text: str, modules: str) -> str:
    """protoc writes `import cri_pb2 as ...`, which only works with the folder on sys.path."""
    return re.sub(rf"^import ({modules})( as .*)?$", r"from . import \1\2", text, flags=re.MULTILINE)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=GENERATED)
    make(parser.parse_args().to)


if __name__ == "__main__":
    main()
