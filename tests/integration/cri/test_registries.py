"""What nodes have beside the kubelet's words: registries.conf, auth files, credential helpers, other tools' images."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import Image, Layer, digest, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import Cri, Pod, refused
from tests.harness.daemon import Daemon, serving
from tests.harness.registry import Registry
from tests.integration.conftest import insecure

SECRET = "canary-4711"
LOGIN = ("robot", SECRET)


def small(word: str) -> Image:
    """An image of one small file, which nobody else has."""
    layer = Layer()
    layer.file("word", word.encode())
    return image([layer.tar()], {"Cmd": ["/word"]})


@pytest.fixture(scope="module")
def locked() -> Iterator[Registry]:
    """A registry with a token server."""
    folder = Path(tempfile.mkdtemp(prefix="ctreg-", dir="/tmp"))
    served = Registry(folder, login=LOGIN, tokens=True)
    try:
        served.start()
        for name in ("team", "helped", "global"):
            served.push(small(name), f"{name}/app", "v1")
        yield served
    finally:
        served.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def daemon(system_users: None, registry: Registry) -> Iterator[Daemon]:
    """A daemon with an auth file, a folder of them by namespace, and credential helpers."""
    mine = Daemon(insecure(registry.address))
    for name in ("auth", "namespaces", "helpers"):
        (mine.folder / name).mkdir()
    settings = {
        "global_auth_file": str(mine.folder / "auth" / "auth.json"),
        "namespaced_auth_dir": str(mine.folder / "namespaces"),
        "credential_helper_dir": str(mine.folder / "helpers"),
    }
    os.environ["HTTPS_PROXY"] = "http://ann:pw-of-proxy@127.0.0.1:1"
    with serving(mine, image=settings):
        del os.environ["HTTPS_PROXY"]
        yield mine
        log = mine.log.read_text()
        assert SECRET not in log
        assert "pw-of-proxy" not in log


def auth_file(path: Path, content: dict[str, object]) -> None:
    """Write it as configuration tools do: anew, then renamed; not for everybody to read."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content))
    new.chmod(0o640)
    shutil.chown(new, "root", "crisp-image")
    new.rename(path)


def entry(password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"robot:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("form", "opens"),
    [
        ({"username": "robot", "password": SECRET}, True),
        ({"auth": base64.b64encode(f"robot:{SECRET}".encode()).decode()}, True),
        ({"identity_token": "refresh-robot"}, True),
        ({"username": "<token>", "password": "refresh-robot"}, True),
        ({"registry_token": "signed"}, True),
        ({"username": "robot", "password": SECRET, "server_address": "here"}, True),
        ({"username": "robot", "password": SECRET, "server_address": "https://here/v2/"}, True),
        ({"username": "robot", "password": SECRET, "server_address": "here.evil.example"}, False),
        ({"username": "robot", "password": SECRET, "server_address": "127.0.0.1"}, False),
        ({"username": "robot", "password": f"{SECRET}-not"}, False),
        ({"identity_token": "refresh-nobody"}, False),
        ({"registry_token": "eyJ.eyJ.x"}, False),
        ({}, False),
    ],
)
def test_each_form_of_a_requests_credentials(cri: Cri, locked: Registry, form: dict[str, str], opens: bool) -> None:
    assert locked.tokens is not None
    given = {key: value.replace("here", locked.address) for key, value in form.items()}
    if given.get("registry_token") == "signed":
        given["registry_token"] = locked.tokens.token("robot", "repository:team/app:pull")
    name = f"{locked.address}/team/app:v1"
    if opens:
        cri.remove_image(cri.pull(name, auth=pb.AuthConfig(**given)))
    else:
        with pytest.raises(grpc.RpcError) as caught:
            cri.pull(name, auth=pb.AuthConfig(**given))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert not any(
            value in caught.value.details()
            for key, value in given.items()
            if key != "server_address" and value != "robot"
        )


def test_auth_files_of_the_node_and_of_a_namespace(cri: Cri, daemon: Daemon, locked: Registry) -> None:
    app = f"{locked.address}/team/app:v1"
    with refused(grpc.StatusCode.UNAUTHENTICATED, locked.address):
        cri.pull(app)
    auth_file(daemon.folder / "namespaces" / "team.json", {"auths": {locked.address: entry()}})
    for namespace in ("other", ""):
        with refused(grpc.StatusCode.UNAUTHENTICATED, locked.address):
            cri.pull(app, sandbox_config=in_namespace(namespace))
    cri.pull(app, sandbox_config=in_namespace("team"))
    auth_file(daemon.folder / "auth" / "auth.json", {"auths": {locked.address: entry("wrong")}})
    with refused(grpc.StatusCode.UNAUTHENTICATED, locked.address):
        cri.pull(f"{locked.address}/global/app:v1")
    auth_file(daemon.folder / "auth" / "auth.json", {"auths": {f"{locked.address}/global": entry()}})
    cri.pull(f"{locked.address}/global/app:v1")  # the file was replaced: nothing was restarted


def in_namespace(namespace: str) -> pb.PodSandboxConfig:
    return pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="p", uid="u", namespace=namespace))


def test_proxies_of_the_daemons_environment(cri: Cri, daemon: Daemon) -> None:
    """They outlive each process of it: its children, and those that it is replaced by."""
    for victim in (None, "spawner", "supervisor"):
        if victim:
            before = daemon.kill(victim)
            host.until(f"the {victim} is back", partial(_back, daemon, victim, before))
        daemon.command("reload")
        with refused(grpc.StatusCode.UNAVAILABLE, "proxy 127.0.0.1:1: cannot be reached"):
            cri.pull("far.invalid/app:v1")
    assert (daemon.run / "config.yaml").stat().st_mode & 0o077 == 0


def _back(daemon: Daemon, name: str, before: int) -> bool:
    done = daemon.command("workers", "--json", check=False)
    pids = {one["name"]: one["pid"] for one in json.loads(done.stdout)} if not done.returncode else {}
    return pids.get(name, before) not in (before, None) and daemon.ready()


def test_a_credential_helper(cri: Cri, daemon: Daemon, locked: Registry) -> None:
    app = f"{locked.address}/helped/app:v1"
    auth_file(daemon.folder / "auth" / "auth.json", {"credHelpers": {locked.address: "test"}})
    with refused(grpc.StatusCode.NOT_FOUND, "docker-credential-test"):
        cri.pull(app)
    program = daemon.folder / "helpers" / "docker-credential-test"
    program.write_text(f"""#!/bin/sh
        read server
        [ "$1 $server $(id -un)" = "get {locked.address} crisp-image" ] || exit 1
        echo '{{"ServerURL":"x","Username":"robot","Secret":"{SECRET}"}}'
    """)
    program.chmod(0o755)
    cri.pull(app)
    assert cri.image(app) is not None
    program.write_text(f"#!/bin/sh\necho {SECRET} >&2; exit 1\n")
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{locked.address}/helped/app:v2")
    assert "credential helper test" in caught.value.details()
    assert SECRET not in caught.value.details()
    auth_file(daemon.folder / "auth" / "auth.json", {})


def test_short_names_by_the_nodes_own_files(cri: Cri, daemon: Daemon, registry: Registry) -> None:
    one, two = small("short one"), small("short two")
    registry.push(one, "short", "v1")
    registry.push(two, "aliased", "v1")
    conf = daemon.containers / "registries.conf"
    drop_in = daemon.containers / "registries.conf.d" / "000-shortnames.conf"
    before = conf.read_text()
    conf.write_text(f'unqualified-search-registries = ["{registry.address}"]\n{before}')
    assert cri.pull("short:v1") == cri.pull(f"{registry.address}/short:v1")
    assert cri.image("short:v1").id == one.id
    drop_in.parent.mkdir()
    drop_in.write_text(f'[aliases]\nshort = "{registry.address}/aliased"\n')
    cri.pull("short:v1")
    assert cri.image("short:v1").id == two.id
    cri.remove_image("short:v1")
    assert cri.image(two.id) is None
    assert cri.image(one.id) is not None
    drop_in.write_text('unqualified-search-registries = []\n[aliases]\nshort = ""\n')
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "names no registries to search"):
        cri.pull("short:v1")
    drop_in.write_text('short-name-mode = "enforcing"\nunqualified-search-registries = ["a.invalid", "b.invalid"]\n')
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "enforcing"):
        cri.pull("short:v1")
    drop_in.unlink()
    conf.write_text(before)


def test_a_reference_with_tag_and_digest(cri: Cri, registry: Registry) -> None:
    """The digest decides; the tag is a remark, and is not given to the image."""
    one, two = small("tag and digest"), small("what the tag means by now")
    registry.push(one, "both", "v1")
    registry.push(two, "both", "v1")
    both = f"{registry.address}/both:v1@{one.digest}"
    assert cri.pull(both) == one.id
    found = cri.image(both)
    assert (found.id, list(found.repo_tags)) == (one.id, [])
    assert list(found.repo_digests) == [f"{registry.address}/both@{one.digest}"]
    assert cri.image(f"{registry.address}/both:v1") is None
    for name in (one.id, one.id.removeprefix("sha256:"), one.id.removeprefix("sha256:")[:12], one.id[:20]):
        assert cri.image(name).id == one.id, name
    cri.remove_image(one.id.removeprefix("sha256:")[:12])
    assert cri.image(both) is None


@pytest.fixture(scope="module")
def foreign_layout(busybox: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that umoci made: two layers, a whiteout, a configuration of its own."""
    folder = tmp_path_factory.mktemp("umoci")
    layout, bundle = folder / "layout", folder / "bundle"
    tagged = f"{layout}:v1"
    host.run("umoci", "init", "--layout", str(layout))
    host.run("umoci", "new", "--image", tagged)
    host.run("umoci", "unpack", "--image", tagged, str(bundle))
    for layer in busybox.layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            tar.extraction_filter = lambda member, _: member  # all as it is: not every Python has its name for that
            tar.extractall(bundle / "rootfs", numeric_owner=True)
    host.run("umoci", "repack", "--refresh-bundle", "--image", tagged, str(bundle))
    (bundle / "rootfs" / "made-by").write_text("umoci\n")
    (bundle / "rootfs" / "home/web/hello").unlink()
    host.run("umoci", "repack", "--image", tagged, str(bundle))
    host.run("umoci", "config", "--image", tagged, "--config.cmd", "cat", "--config.cmd", "/made-by",
             "--config.env", "PATH=/bin", "--config.workingdir", "/home", "--config.user", "web")  # fmt: skip
    return layout


FORMS = {
    "oci-gzip": ("--format", "oci"),
    "oci-zstd": ("--dest-compress-format", "zstd"),
    "oci-zstd-chunked": ("--dest-compress-format", "zstd:chunked"),
    "docker-gzip": ("--format", "v2s2"),
    "uncompressed": (),
}
MEDIA = {
    "oci-gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "oci-zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "oci-zstd-chunked": "application/vnd.oci.image.layer.v1.tar+zstd",
    "docker-gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "uncompressed": "application/vnd.oci.image.layer.v1.tar",
}


@pytest.fixture(scope="module")
def pod(daemon: Daemon) -> Iterator[Pod]:
    """One for all images."""
    made = Pod(daemon.cri, daemon.logs, "")
    yield made
    made.remove()


@pytest.mark.parametrize("form", FORMS)
def test_images_that_umoci_made_and_skopeo_pushed(
    pod: Pod, cri: Cri, registry: Registry, foreign_layout: Path, form: str, tmp_path: Path
) -> None:
    """Whatever the form, they run, and are called by the digest of their configuration."""
    name = f"{registry.address}/umoci-{form}:v1"
    source = f"oci:{foreign_layout}:v1"
    match form.partition("-")[2]:
        case "gzip":
            host.run("skopeo", "copy", "--dest-tls-verify=false", *FORMS[form], source, f"docker://{name}")
        case "zstd" | "zstd-chunked":  # skopeo pushes what it compressed before instead, where the registry has that
            host.run("skopeo", "copy", "--dest-decompress", source, f"dir:{tmp_path}/plain")
            host.run("skopeo", "copy", *FORMS[form], f"dir:{tmp_path}/plain", f"oci:{tmp_path}/zstd:v1")
            registry.push(of_layout(tmp_path / "zstd"), f"umoci-{form}", "v1")
        case _:
            registry.push(of_layout(foreign_layout, plain=True), f"umoci-{form}", "v1")
    raw = json.loads(host.run("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}"))
    assert {layer["mediaType"] for layer in raw["layers"]} == {MEDIA[form]}
    chunked = any("zstd-chunked" in key for layer in raw["layers"] for key in layer.get("annotations", ()))
    assert chunked == (form == "oci-zstd-chunked")
    cri.pull(name)
    assert cri.image(name).id == raw["config"]["digest"]
    pod.image = name
    container = pod.run()
    assert cri.wait_exit(container).exit_code == 0
    assert pod.log(container) == [("stdout", "umoci")]
    status, log = pod.result("id -un; pwd; ls -A /home/web")
    assert (status.exit_code, [text for _, text in log]) == (0, ["web", "/home"])
    for used in cri.list_containers(pod_sandbox_id=pod.id):
        cri.remove(used.id)
    cri.remove_image(name)  # so that the next form's layers are fetched


def of_layout(layout: Path, *, plain: bool = False) -> Image:
    """The image of a layout. With its layers decompressed: no tool pushes them so, but registries may have them."""

    def blob(of: str) -> bytes:
        return (layout / "blobs" / of.replace(":", "/")).read_bytes()

    manifest = blob(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])
    read = json.loads(manifest)
    layers = tuple(blob(layer["digest"]) for layer in read["layers"])
    if plain:
        layers = tuple(gzip.decompress(layer) for layer in layers)
        read["layers"] = [
            {"mediaType": MEDIA["uncompressed"], "digest": digest(layer), "size": len(layer)} for layer in layers
        ]
        manifest = json.dumps(read).encode()
    return Image(manifest=manifest, config=blob(read["config"]["digest"]), layers=layers)
