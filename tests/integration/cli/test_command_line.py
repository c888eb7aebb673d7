"""`crisp` against a real daemon: what an administrator types, what a script reads."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo_image import Image, Layer, image
from tests.harness import host
from tests.harness.daemon import CHECKOUT, Daemon
from tests.harness.registry import Registry


def objects(daemon: Daemon, *argv: str) -> list[dict[str, object]]:
    return json.loads(daemon.command(*argv, "--json").stdout)


@pytest.fixture
def web(daemon: Daemon, busybox_ref: str) -> Iterator[str]:
    """A running pod by name, whose container says something on both streams."""
    name = "clitest"
    script = "echo to stdout; echo to stderr >&2; trap exit TERM; sleep 300 & wait"
    daemon.command("run", "--detach", "--name", name, "-e", "GREETING=hi there", busybox_ref, "sh", "-c", script)
    yield name
    daemon.command("rm", "--force", name)


def test_status_and_workers(daemon: Daemon) -> None:
    assert json.loads(daemon.command("status", "--json").stdout)["healthy"] is True
    workers = {worker["name"]: worker for worker in objects(daemon, "workers")}
    assert {"supervisor", "spawner", "front", "image", "storage", "network", "runtime"} <= workers.keys()
    assert workers["image"]["capabilities"] == []
    assert workers["image"]["no_new_privs"] is True
    header = daemon.command("workers").stdout.splitlines()[0].split()
    assert header == [
        "NAME", "STATE", "PID", "UID", "CAPABILITIES", "SECCOMP", "NO_NEW_PRIVS", "MEMORY", "RESTARTS", "UPTIME",
    ]  # fmt: skip


def test_a_pod_from_run_to_rm(daemon: Daemon, web: str) -> None:
    (pod,) = [pod for pod in objects(daemon, "pods") if pod["name"] == web]
    assert pod["state"] == "ready"
    assert str(pod["ip"]).startswith(daemon.subnet)
    (container,) = [one for one in objects(daemon, "ps") if one["pod"] == pod["id"]]
    assert (container["name"], container["state"], container["pod_name"]) == (web, "running", web)
    assert web in daemon.command("pods").stdout
    host.until("its words are logged", lambda: daemon.command("logs", web).stdout == "to stdout\n", 10)
    assert daemon.command("logs", web).stderr == "to stderr\n"
    assert daemon.command("logs", "--tail", "0", web).stdout == ""
    found = json.loads(daemon.command("inspect", web).stdout)
    assert found["status"]["id"] == container["id"]
    assert "GREETING=hi there" in found["info"]["runtimeSpec"]["process"]["env"]
    daemon.command("stop", "--timeout", "5", web)
    (container,) = [one for one in objects(daemon, "ps", "--all") if one["pod"] == pod["id"]]
    assert container["state"] == "exited"
    assert list((daemon.root / "logs").iterdir())
    daemon.command("rm", str(pod["id"])[:20])
    assert all(other["id"] != pod["id"] for other in objects(daemon, "pods"))
    assert not list((daemon.root / "logs").iterdir())


def test_exec_gives_the_commands_own_status_and_streams(daemon: Daemon, web: str) -> None:
    done = daemon.command("exec", web, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert daemon.command("exec", web, "--", "sh", "-c", "echo $GREETING").stdout == "hi there\n"


def test_a_running_container_is_removed_by_force_alone(daemon: Daemon, web: str) -> None:
    (container,) = [one for one in objects(daemon, "ps") if one["name"] == web]
    done = daemon.command("rm", str(container["id"]), check=False)
    assert done.returncode == 1
    assert "--force" in done.stderr
    daemon.command("rm", "--force", str(container["id"]))


def test_run_rm_shows_the_log_and_leaves_nothing(daemon: Daemon, busybox_ref: str) -> None:
    before = objects(daemon, "pods")
    done = daemon.command("run", "--rm", busybox_ref, "sh", "-c", "echo a; sleep 1; echo b >&2; exit 5", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, "a\n", "b\n")
    assert objects(daemon, "pods") == before
    assert not list((daemon.root / "logs").iterdir())


def test_a_run_that_fails_leaves_nothing(daemon: Daemon, busybox_ref: str) -> None:
    before = objects(daemon, "pods")
    done = daemon.command("run", "-v", "/dev/null/not:/x", busybox_ref, "true", check=False)
    assert done.returncode == 2
    assert "/dev/null/not" in done.stderr
    assert done.stderr.count("\n") == 1
    assert objects(daemon, "pods") == before
    assert not list((daemon.root / "logs").iterdir())


def test_logs_follow_until_the_end(daemon: Daemon, busybox_ref: str) -> None:
    daemon.command("run", "--name", "clifollow", busybox_ref, "sh", "-c", "echo one; sleep 2; echo two")
    try:
        assert daemon.command("logs", "--follow", "clifollow").stdout == "one\ntwo\n"
    finally:
        daemon.command("rm", "--force", "clifollow")


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_a_saved_image_is_read_by_others_and_loaded_again(
    daemon: Daemon, busybox_ref: str, busybox: Image, tmp_path: Path, form: str
) -> None:
    """Compressed layers are long gone: the tars are made again, and the image has its id everywhere."""
    file = tmp_path / "saved.tar"
    (saved,) = objects(daemon, "image", "save", "--format", form, "--output", str(file), busybox_ref)
    assert saved == {"id": busybox.id, "names": [busybox_ref]}
    source = f"{form}-archive:{file}" + (f":{busybox_ref}" if form == "docker" else "")
    host.run("skopeo", "copy", source, f"dir:{tmp_path}/copy")
    read = json.loads((tmp_path / "copy" / "manifest.json").read_bytes())
    assert read["config"]["digest"] == busybox.id
    assert list((daemon.root / "storage" / "outgoing").iterdir()) == []
    daemon.command("image", "rm", busybox_ref)
    (loaded,) = objects(daemon, "image", "load", str(file))
    assert loaded == {"id": busybox.id, "names": [busybox_ref]}
    assert daemon.command("run", "--rm", busybox_ref).stdout == "from the image\n"
    again = subprocess.run(
        [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), "image", "save",
         "--format", form, busybox.id],
        cwd=CHECKOUT, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert again.stdout == file.read_bytes()
    missing = daemon.command("image", "save", "--output", str(tmp_path / "none.tar"), "none.test/x", check=False)
    assert missing.returncode == 3
    for nowhere in (tmp_path / "none" / "x.tar", tmp_path / "copy"):
        assert daemon.command("image", "save", "--output", str(nowhere), busybox.id, check=False).returncode == 2
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["saved.tar"]


def test_images_that_are_skopeos_are_loaded(daemon: Daemon, registry: Registry, busybox: Image, tmp_path: Path) -> None:
    for form in ("oci", "docker"):
        file = tmp_path / f"{form}.tar"
        target = f"{form}-archive:{file}:skopeo.test/{form}:v1"
        host.run("skopeo", "copy", "--src-tls-verify=false", f"docker://{registry.address}/busybox:latest", target)
        (loaded,) = objects(daemon, "image", "load", str(file))
        assert loaded == {"id": busybox.id, "names": [f"skopeo.test/{form}:v1"]}


def test_kept_blobs_are_saved_as_they_came(daemon: Daemon, registry: Registry, tmp_path: Path) -> None:
    """The manifest in the archive is the registry's own; with the image they go."""
    section = daemon.config["image"]
    assert isinstance(section, dict)
    blobs = daemon.root / "image" / "blobs" / "sha256"
    section["keep_blobs"] = True
    daemon.write_config()
    daemon.command("reload")
    try:
        layer = Layer()
        layer.file("kept", b"kept" * 1000)
        built = image([layer.tar()], {"Cmd": ["/kept"]})
        registry.push(built, "kept", "v1")
        before = set(blobs.iterdir())
        daemon.command("pull", f"{registry.address}/kept:v1")
        assert {path.name for path in set(blobs.iterdir()) - before} == {
            of.removeprefix("sha256:") for of in (*built.blobs, built.digest)
        }
        file = tmp_path / "kept.tar"
        daemon.command("image", "save", "-o", str(file), f"{registry.address}/kept:v1")
        assert json.loads(host.run("skopeo", "inspect", f"oci-archive:{file}"))["Digest"] == built.digest
        daemon.command("image", "rm", built.id)
        assert set(blobs.iterdir()) == before
    finally:
        section["keep_blobs"] = False
        daemon.write_config()
        daemon.command("reload")


def test_image_load_leaves_no_archive(daemon: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "demo.tar"
    host.run(sys.executable, str(CHECKOUT / "deploy/demo_image.py"), "--output", str(archive), "--name", "cli.test/a:1")
    loaded = objects(daemon, "image", "load", str(archive))
    assert [image["names"] for image in loaded] == [["cli.test/a:1"]]
    assert [image["id"] for image in objects(daemon, "images") if "cli.test/a:1" in image["tags"]] == [loaded[0]["id"]]  # type: ignore[operator]
    bad = tmp_path / "bad.tar"
    bad.write_bytes(b"not a tar" * 1000)
    assert daemon.command("image", "load", str(bad), check=False).returncode in (1, 2)
    assert list((daemon.root / "image" / "incoming").iterdir()) == []
    daemon.command("image", "rm", "cli.test/a:1")
    assert daemon.command("image", "rm", "cli.test/a:1", check=False).returncode == 3


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["logs", "no-such"], 3),
        (["exec", "no-such", "true"], 3),
        (["inspect", "no-such"], 3),
        (["stop", "no-such"], 3),
        (["rm", "no-such"], 3),
        (["rm", "--force", "no-such"], 0),
        (["restart", "no-such"], 3),
        (["pull", "BAD"], 2),
        (["pull", "127.0.0.1:1/none"], 1),
        (["image", "load", "/no/such.tar"], 3),
    ],
)
def test_statuses_and_one_line_errors(daemon: Daemon, argv: list[str], status: int) -> None:
    done = daemon.command(*argv, check=False)
    assert done.returncode == status
    if status:
        assert done.stderr.startswith("crisp: ")
        assert done.stderr.count("\n") == 1


def test_restart(daemon: Daemon) -> None:
    before = daemon.workers()["image"]
    after = json.loads(daemon.command("restart", "image", "--json").stdout)
    assert after["pid"] != before
    assert daemon.workers()["image"] == after["pid"]


def test_doctor_finds_and_mends(daemon: Daemon) -> None:
    assert objects(daemon, "doctor") == []
    stray = daemon.run / "netns" / ("d" * 64)
    stray.touch()
    try:
        done = daemon.command("doctor", "--json", check=False)
        assert done.returncode == 5
        (finding,) = json.loads(done.stdout)
        assert (finding["kind"], finding["id"], finding["mended"]) == ("network", "d" * 64, False)
        mended = daemon.command("doctor", "--mend", "--json", check=False)
        assert (mended.returncode, json.loads(mended.stdout)[0]["mended"]) == (0, True)
        assert not stray.exists()
    finally:
        stray.unlink(missing_ok=True)


def test_a_terminal_gets_bars_and_tables(daemon: Daemon, busybox_ref: str) -> None:
    daemon.command("image", "rm", busybox_ref)
    assert "done" in _on_a_terminal(daemon, "pull", busybox_ref)
    assert busybox_ref in _on_a_terminal(daemon, "images")


def _on_a_terminal(daemon: Daemon, *argv: str) -> str:
    """What a command writes to a terminal."""
    ours, its = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "LINES": "50", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "kernel.cli.main", "--config", str(daemon.config_file), *argv],
        cwd=CHECKOUT, env=environment, stdin=its, stdout=its, stderr=its,
    ) as process:  # fmt: skip
        os.close(its)
        written, end = b"", time.monotonic() + 60
        try:
            while select.select([ours], [], [], max(end - time.monotonic(), 0))[0]:
                written += os.read(ours, 65536)
        except OSError:
            pass  # EIO: the other end is closed
        finally:
            os.close(ours)
        assert process.wait(10) == 0, written
    return written.decode(errors="replace")
