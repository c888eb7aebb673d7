"""The raw parts, run by hand as an administrator would: CNI plugins, runc, a download with its unpacking.

Nothing of crisp is used, so that what crisp adds to them can be told.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import libarchive
from isal import igzip
from libarchive.extract import EXTRACT_OWNER, EXTRACT_PERM, EXTRACT_TIME, EXTRACT_XATTR, extract_entries

from tests.harness import host

PLUGINS = "/usr/lib/cni"
CHUNK = 1 << 20


class Network:
    """A network's chain of plugins, by hand."""

    def __init__(self, conflist: Path) -> None:
        self.network = json.loads(conflist.read_text())

    def prepare(self, name: str) -> None:
        """What is not timed: the namespace's file."""
        host.run("ip", "netns", "add", name)

    def add(self, name: str) -> None:
        """ADD, plugin by plugin."""
        self._run("ADD", name)

    def delete(self, name: str) -> None:
        """DEL, and the namespace away."""
        self._run("DEL", name)
        host.run("ip", "netns", "delete", name)

    def _run(self, verb: str, name: str) -> None:
        environment = {
            "CNI_COMMAND": verb, "CNI_CONTAINERID": name, "CNI_NETNS": f"/run/netns/{name}", "CNI_IFNAME": "eth0",
            "CNI_PATH": PLUGINS, "PATH": os.environ["PATH"],
        }  # fmt: skip
        plugins = self.network["plugins"]
        result = None
        for plugin in plugins if verb == "ADD" else reversed(plugins):
            config = {**plugin, "name": self.network["name"], "cniVersion": self.network["cniVersion"]}
            if result is not None:
                config["prevResult"] = result
            done = subprocess.run(
                [f"{PLUGINS}/{plugin['type']}"], input=json.dumps(config), env=environment,
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            result = json.loads(done.stdout) if verb == "ADD" else None


class Parts:
    """One pod at a time from its parts, with the spec and the image of a container that crisp runs."""

    def __init__(self, folder: Path, conflist: Path, spec: dict, rootfs: Path) -> None:
        self.folder = folder
        self.runc_root = folder / "runc"
        self.network = Network(conflist)
        self.spec = spec
        self.lower = _lower_layers(rootfs)
        folder.mkdir()

    def prepare(self, name: str) -> None:
        """What is not timed: the namespace's file, the root file system, the bundle."""
        self.network.prepare(name)
        bundle = self.folder / name
        for part in ("rootfs", "upper", "work"):
            (bundle / part).mkdir(parents=True)
        options = f"lowerdir={self.lower},upperdir={bundle / 'upper'},workdir={bundle / 'work'}"
        host.run("mount", "-t", "overlay", "overlay", "-o", options, str(bundle / "rootfs"))
        spec = json.loads(json.dumps(self.spec))
        spec["root"]["path"] = str(bundle / "rootfs")
        spec["linux"]["cgroupsPath"] = f"{os.path.dirname(spec['linux']['cgroupsPath'])}/{name}"
        for namespace in spec["linux"]["namespaces"]:
            namespace.pop("path", None)
            if namespace["type"] == "network":
                namespace["path"] = f"/run/netns/{name}"
        (bundle / "config.json").write_text(json.dumps(spec))

    def up(self, name: str) -> None:
        """CNI ADD, `runc create` and `runc start`."""
        self.network.add(name)
        self._runc("create", "--bundle", str(self.folder / name), name)
        self._runc("start", name)

    def down(self, name: str) -> None:
        """Everything of it away."""
        self._runc("delete", "--force", name)
        self.network.delete(name)
        host.run("umount", str(self.folder / name / "rootfs"))
        shutil.rmtree(self.folder / name)

    def _runc(self, *argv: str) -> None:
        subprocess.run(
            ["runc", "--root", str(self.runc_root), *argv],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip


def execute(command: list[str]) -> None:
    """A command with its output read."""
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True)


def runtime_of(config: dict, run: Path, handler: str, container: str) -> list[str]:
    """How an administrator would call a daemon's OCI runtime."""
    (root,) = {path.parent for path in run.rglob(container) if path.parent.name == f"{handler}-state"}
    return [config["runtime"]["handlers"][handler]["path"], "--root", str(root)]


def pull(url: str, folder: Path) -> str:
    """Download a layer, hash it, decompress it with isal and unpack it with libarchive; its digest."""
    number = len(list(folder.iterdir()))
    blob = folder / f"blob{number}"
    hashed = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as reply, blob.open("wb") as out:
        while part := reply.read(CHUNK):
            hashed.update(part)
            out.write(part)
    target = folder / f"layer{number}"
    target.mkdir()
    before = Path.cwd()
    os.chdir(target)
    try:
        with igzip.open(blob, "rb") as stream, libarchive.stream_reader(_Reader(stream), "tar") as entries:
            extract_entries(entries, EXTRACT_OWNER | EXTRACT_PERM | EXTRACT_TIME | EXTRACT_XATTR)
    finally:
        os.chdir(before)
    return f"sha256:{hashed.hexdigest()}"


class _Reader:
    """A stream that libarchive reads straight through."""

    def __init__(self, stream) -> None:
        self._stream = stream

    def readinto(self, buffer) -> int:
        return self._stream.readinto(buffer)

    def seekable(self) -> bool:
        return False


def _lower_layers(rootfs: Path) -> str:
    """The layers below a mounted root file system, as its mount says."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(rootfs):
            options = fields[-1].split(",")
            found = [option.removeprefix("lowerdir=") for option in options if option.startswith("lowerdir=")]
            more = [option.removeprefix("lowerdir+=") for option in options if option.startswith("lowerdir+=")]
            return ":".join(found + more)
    raise AssertionError(f"{rootfs} is not mounted")


def names(prefix: str) -> Iterator[str]:
    """Names for pods made by hand."""
    number = 0
    while True:
        number += 1
        yield f"{prefix}{number}"
