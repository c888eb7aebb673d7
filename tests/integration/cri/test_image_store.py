"""Images on disk: checked, mended, wiped on request only, pulled and removed at once; hostile ones that run."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from pathlib import Path

import grpc
import msgspec
import pytest

from deploy.demo_image import Layer, busybox_layer, image
from tests.harness import host
from tests.harness.cri import Cri
from tests.harness.daemon import Daemon
from tests.harness.registry import Registry
from tests.integration.conftest import insecure


def two_layers(registry: Registry, name: str) -> tuple[str, list[str]]:
    """An image of two layers, that runs; its reference and diff ids."""
    upper = Layer()
    upper.file("data/word", name.encode(), mode=0o640, uid=12)
    built = image([busybox_layer().tar(), upper.tar()], {"Env": ["PATH=/bin"]})
    registry.push(built, name, "v1")
    return f"{registry.address}/{name}:v1", json.loads(built.config)["rootfs"]["diff_ids"]


def layer(daemon: Daemon, diff_id: str) -> Path:
    return daemon.root / "storage" / "layers" / diff_id.removeprefix("sha256:")


def checked(daemon: Daemon, *options: str) -> tuple[int, dict[str, str]]:
    done = daemon.command("image", "check", "--json", *options, check=False)
    return done.returncode, {finding["layer"]: finding["state"] for finding in json.loads(done.stdout)}


def test_a_damaged_layer_is_found_and_mended_alone(daemon: Daemon, cri: Cri, registry: Registry, pods) -> None:
    reference, (below, above) = two_layers(registry, "check")
    cri.pull(reference)
    pod = pods()
    pod.image = reference
    running = pod.shell("sleep 600")
    assert checked(daemon)[0] == 0
    word = layer(daemon, above) / "diff/data/word"
    word.write_bytes(b"chekc")
    untouched = (layer(daemon, below) / "diff").stat().st_ino
    status, found = checked(daemon)
    assert (status, found[above], found[below]) == (5, "damaged", "whole")
    table = daemon.command("image", "check", check=False)
    assert "give the tar" in table.stdout
    assert "--repair" in table.stderr
    assert cri.image(reference) is not None  # a check alone changes nothing
    status, found = checked(daemon, "--repair")
    assert (status, found[above]) == (0, "repaired")
    assert word.read_bytes() == b"check"
    assert (layer(daemon, below) / "diff").stat().st_ino == untouched
    assert checked(daemon)[0] == 0
    assert cri.output(running, "cat", "/data/word") == "chekc"  # what runs goes on with what it has
    fresh = pod.shell("sleep 600")
    assert cri.output(fresh, "cat", "/data/word") == "check"


def test_after_the_host_went_down_only_the_bad_layer_is_fetched_again(
    daemon: Daemon, cri: Cri, registry: Registry, pods
) -> None:
    reference, (below, above) = two_layers(registry, "crash")
    cri.pull(reference)
    untouched = (layer(daemon, below) / "diff").stat().st_ino
    daemon.kill_all()
    (layer(daemon, above) / "diff/data/word").write_bytes(b"\0\0\0\0\0")  # as ext4 leaves what was never written back
    for diff_id in (below, above):
        file = layer(daemon, diff_id) / "layer.json"
        file.write_bytes(msgspec.json.encode({**msgspec.json.decode(file.read_bytes()), "boot": "the last one"}))
    (daemon.root / "storage" / "state.json").write_bytes(b'{"boot": "the last one"}')
    daemon.start()
    host.until("the image is whole again", lambda: _whole(daemon, above), 30)
    host.until("it is listed", lambda: cri.image(reference) is not None, 30)
    assert (layer(daemon, below) / "diff").stat().st_ino == untouched
    pod = pods()
    pod.image = reference
    assert pod.result("cat /data/word; echo")[1] == [("stdout", "crash")]


def _whole(daemon: Daemon, diff_id: str) -> bool:
    word = layer(daemon, diff_id) / "diff/data/word"
    return word.exists() and word.read_bytes() == b"crash"


def test_folders_that_a_layer_omits_keep_their_look(cri: Cri, registry: Registry, pods) -> None:
    base = busybox_layer()
    base.folder("data", mode=0o2750, uid=12, gid=34)
    base.folder("data/in", mode=0o1777)
    upper = io.BytesIO()
    with tarfile.open(fileobj=upper, mode="w") as tar:  # no entry for a parent, as some builders have it
        entry = tarfile.TarInfo("data/in/file")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"new"))
    registry.push(image([base.tar(), upper.getvalue()], {"Env": ["PATH=/bin"]}), "omits", "v1")
    pod = pods()
    pod.image = f"{registry.address}/omits:v1"
    cri.pull(pod.image)
    _, log = pod.result("stat -c %a:%u:%g /data /data/in; cat /data/in/file")
    assert [text for _, text in log] == ["2750:12:34", "1777:0:0", "new"]


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_an_image_whose_mount_points_lead_outward_reaches_nothing(
    cri: Cri, registry: Registry, pods, handler: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    names = ("dev", "proc", "sys", "etc")
    hostile = Layer()
    for name in names:
        (outside / name).mkdir()
        hostile.symlink(name, f"../../../../../../../..{outside}/{name}")
    registry.push(image([busybox_layer().tar(), hostile.tar()], {"Env": ["PATH=/bin"]}), "outward", handler)
    pod = pods(handler=handler)
    pod.image = f"{registry.address}/outward:{handler}"
    cri.pull(pod.image)
    _, log = pod.result(
        "for d in dev proc sys etc; do test -L /$d || echo plain $d; done; test -e /proc/self && echo p"
    )
    assert [text for _, text in log] == [*(f"plain {name}" for name in names), "p"]
    assert {name: list((outside / name).iterdir()) for name in names} == {name: [] for name in names}


def test_pulls_and_removals_at_once_never_leave_half_an_image(
    daemon: Daemon, cri: Cri, registry: Registry, pods
) -> None:
    shared = Layer()
    shared.file("shared", b"x" * 200_000)
    shared_tar = shared.tar()
    references = []
    for number in range(3):
        own = Layer()
        own.file("own", b"%d" % number)
        tars = [busybox_layer().tar(), shared_tar, own.tar()]
        registry.push(image(tars, {"Env": ["PATH=/bin"]}), f"race{number}", "v1")
        references.append(f"{registry.address}/race{number}:v1")
    failures: list[str] = []

    def churn(reference: str, step) -> None:
        for _ in range(8):
            try:
                step(reference)
            except grpc.RpcError as error:
                failures.append(f"{reference}: {error.code().name}: {error.details()}")

    threads = [
        threading.Thread(target=churn, args=(reference, step))
        for reference in references
        for step in (cri.pull, cri.remove_image)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    present = {path.name for path in (daemon.root / "storage" / "layers").iterdir()}
    for one in cri.list_images():
        for name in one.repo_tags:
            info = cri.call("ImageStatus", image={"image": name}, verbose=True).info["info"]
            assert {diff_id[7:] for diff_id in json.loads(info)["imageSpec"]["rootfs"]["diff_ids"]} <= present
    assert checked(daemon)[0] == 0
    for reference in references:
        cri.pull(reference)
        pod = pods()
        pod.image = reference
        assert pod.result("wc -c < /shared")[1] == [("stdout", "200000")]


def test_nothing_is_wiped_but_on_request(daemon: Daemon, cri: Cri, registry: Registry, pods, busybox_ref: str) -> None:
    unused, diff_ids = two_layers(registry, "unused")
    cri.pull(unused)
    pod = pods()
    running = pod.shell("sleep 600")
    (daemon.root / "storage" / "layers" / ".tmp-left" / "diff").mkdir(parents=True)
    refused = daemon.command("image", "wipe", check=False)  # no terminal to ask at
    assert refused.returncode == 1
    assert cri.image(unused) is not None
    done = daemon.command("image", "wipe", "--yes", "--json", check=False)
    assert done.returncode == 1  # one is in use
    wiped = {image["name"]: image for image in json.loads(done.stdout)}
    assert wiped[unused]["removed"]
    assert not wiped[busybox_ref]["removed"]
    assert "used by container" in wiped[busybox_ref]["why"]
    assert not layer(daemon, diff_ids[1]).exists()
    assert not (daemon.root / "storage" / "layers" / ".tmp-left").exists()
    assert [name for one in cri.list_images() for name in one.repo_tags] == [busybox_ref]
    assert cri.output(running, "echo", "alive") == "alive\n"


def test_one_blob_at_two_registries_of_which_one_lies(
    daemon: Daemon, cri: Cri, registry: Registry, pods, tmp_path: Path
) -> None:
    word = Layer()
    word.file("word", b"right" * 100_000)
    built = image([busybox_layer().tar(), word.tar()], {"Env": ["PATH=/bin"]})
    lying = Registry(tmp_path / "lying")
    try:
        lying.start()
        for one in (registry, lying):
            one.push(built, "both", "v1")
        blob = lying.blob_file(json.loads(built.manifest)["layers"][1]["digest"])
        blob.write_bytes(blob.read_bytes()[:-9] + b"elsewhere")
        (daemon.folder / "registries.conf").write_text(insecure(registry.address) + insecure(lying.address))
        failures: dict[str, str] = {}

        def pull(address: str) -> None:
            try:
                cri.pull(f"{address}/both:v1")
            except grpc.RpcError as error:
                failures[address] = error.code().name

        threads = [threading.Thread(target=pull, args=(one.address,)) for one in (lying, registry)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        # Whether the liar is asked for that blob at all is a race; what it gives never counts.
        assert failures.keys() <= {lying.address}
        tags = [tag for one in cri.list_images() if one.id == built.id for tag in one.repo_tags]
        assert f"{registry.address}/both:v1" in tags
        assert (f"{lying.address}/both:v1" in tags) is (lying.address not in failures)
        pod = pods()
        pod.image = f"{registry.address}/both:v1"
        assert pod.result("head -c 10 /word; echo; wc -c < /word")[1] == [
            ("stdout", "rightright"),
            ("stdout", "500000"),
        ]
        assert checked(daemon)[0] == 0
    finally:
        lying.stop()
