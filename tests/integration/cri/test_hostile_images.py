"""What hostile callers, registries and images can say: each is refused with the right code and the registry's name,
nothing of it stays, and the next honest pull succeeds."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from deploy.demo_image import INDEX, Image, Layer, busybox_layer, digest, image
from kernel.cri.generated import cri_pb2 as pb
from tests.harness import host
from tests.harness.cri import INVALID, Cri, Pod, outcome
from tests.harness.daemon import Daemon, serving
from tests.integration.image.lying import Answer, Handler, Lying, guarded, redirect, reply, stalling

SECRET = "canary-4711"
BASIC = f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"
HEX = "0123456789abcdef" * 4
LOSS, AWAY, NOT_NOW, DENIED, LOGIN, FULL = (
    grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED,
)  # fmt: skip


@pytest.fixture(scope="module")
def daemon(system_users: None) -> Iterator[Daemon]:
    """A daemon that gives up early."""
    mine = Daemon()
    with serving(mine, image={"progress_timeout": 1.0, "download_retries": 0}):
        pids = mine.workers()
        yield mine
        assert mine.workers() == pids, "a worker died of it"
        assert SECRET not in mine.log.read_text()


@pytest.fixture
def liars() -> Iterator[Callable[[], Lying]]:
    started: list[Lying] = []

    def start() -> Lying:
        started.append(Lying())
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def honest() -> Image:
    layer = Layer()
    layer.file("word", b"honest" * 500)
    return image([layer.tar()], {"Cmd": ["/word"]})


def holdings(daemon: Daemon) -> list[str]:
    """All that images leave on disk."""
    folders = (daemon.root / "image" / "blobs", daemon.root / "storage" / "layers")
    return sorted(str(path) for folder in folders for path in folder.rglob("*") if not path.is_dir())


def same(daemon: Daemon, before: list[str]) -> bool:
    return holdings(daemon) == before


@pytest.mark.parametrize(
    "reference",
    [
        "../x", "a//b", "/x", "x\n", "x\x01y", "x\x7f", "Upper", "example.com/Upper/x", "x" * 256,
        f"example.com/{'a/' * 130}x", "x:" + "t" * 129, "u:canary-4711@host/x", "example.com:70000/x",
        "example.com:0/x", "https://example.com/x", "x@sha256:../../x", f"x@sha256:{HEX[:-1]}", f"x@sha256:{HEX}0",
        f"x@sha256:{HEX.upper()}", f"x@sha512:{HEX}{HEX}", "x@md5:abc", "x@sha256:" + "\u0663" * 64, "b\u00fcsybox",
    ],
)  # fmt: skip
def test_references_that_reach_no_registry(cri: Cri, daemon: Daemon, reference: str) -> None:
    for call in ("PullImage", "ImageStatus", "RemoveImage"):
        with pytest.raises(grpc.RpcError) as caught:
            cri.call(call, image=pb.ImageSpec(image=reference))
        assert (caught.value.code(), SECRET in caught.value.details()) == (INVALID, False), call


@pytest.mark.parametrize(
    "auth",
    [
        {"username": "ann", "password": f"{SECRET}\r\nX: y"}, {"username": "a\0nn", "password": SECRET},
        {"password": "x" * (1 << 20)}, {"auth": SECRET}, {"auth": "x" * (1 << 20)}, {"identity_token": f"{SECRET}\n"},
        {"registry_token": f"{SECRET} \t\r"}, {"username": "u", "server_address": "http://[::1"},
    ],
)  # fmt: skip
def test_credentials_that_are_no_header(cri: Cri, liars: Callable[[], Lying], honest: Image, auth: dict) -> None:
    liar = liars()
    liar.serve(honest)
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{liar.address}/app", auth=pb.AuthConfig(**auth))
    assert (caught.value.code(), SECRET in caught.value.details(), liar.seen) == (INVALID, False, [])


def raw(data: bytes) -> Answer:
    def answer(handler: Handler) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def trickle(handler: Handler) -> None:
    """One byte at a time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.stopping.wait(0.02):
        handler.wfile.write(b"x")


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"2710\r\n" + b"x" * 10000 + b"\r\n")


def headers(*lines: bytes, body: bytes = b"") -> Answer:
    """A response with header lines as they are."""
    return raw(b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"Content-Length: %d" % len(body), b"", body)))


REPEATED = json.dumps({"errors": [{"code": SECRET, "message": BASIC}]}).encode()
OK = b"HTTP/1.1 200 OK\r\n"
MANIFEST_ANSWERS: dict[str, tuple[Answer, grpc.StatusCode]] = {
    "no such image": (reply(404), grpc.StatusCode.NOT_FOUND),
    "denied": (reply(403), DENIED),
    "too many requests": (reply(429), FULL),
    "redirect to a file": (redirect("file:///etc/shadow"), AWAY),
    "redirect to a unix socket": (redirect("unix:/run/crisp/crisp.sock"), AWAY),
    "redirect to gopher": (redirect("gopher://127.0.0.1:70/x"), AWAY),
    "redirect with a password": (redirect("http://u:p@127.0.0.1/x"), AWAY),
    "redirect to the metadata service": (redirect("http://169.254.169.254/latest/meta-data"), AWAY),
    "redirect to itself": (redirect("/v2/app/manifests/latest"), AWAY),
    "redirect with a folded header": (
        raw(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n X-Evil: y\r\nContent-Length: 0\r\n\r\n"), AWAY
    ),
    "a header of a megabyte": (headers(b"X: " + b"y" * (1 << 20)), AWAY),
    "ten thousand headers": (headers(*(b"X-%d: y" % n for n in range(10_000))), AWAY),
    "control characters in a header": (headers(b"Content-Type: a\x01b"), AWAY),
    "two lengths": (raw(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), AWAY),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH\r\n"), AWAY),
    "gzip unasked": (reply(200, gzip.compress(b"{}"), {"Content-Encoding": "gzip"}), AWAY),
    "encoded a hundred times": (reply(200, b"{}", {"Content-Encoding": ", ".join(["gzip"] * 100)}), AWAY),
    "brotli unasked": (reply(200, b"{}", {"Content-Encoding": "br"}), AWAY),
    "stalling": (stalling(b"{", 100), AWAY),
    "endless": (endless, AWAY),
    "larger than 4 MiB": (reply(200, b" " * ((4 << 20) + 1)), AWAY),
    "an error that repeats our words": (guarded(reply(400, REPEATED), BASIC, 'Basic realm="x"'), AWAY),
    "a token server on the link": (guarded(reply(200), "x", 'Bearer realm="http://169.254.169.254/t"'), LOGIN),
    "a token server that is a file": (guarded(reply(200), "x", 'Bearer realm="file:///etc/shadow"'), AWAY),
    "a token server with a password": (guarded(reply(200), "x", 'Bearer realm="http://u:p@127.0.0.1/t"'), AWAY),
    "a token server elsewhere": (guarded(reply(200), "x", 'Bearer realm="http://evil.invalid/t"'), LOGIN),
    "a folded challenge": (
        raw(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="http://127.0.0.1/t",\r\n service="x"\r\n'
            b"Content-Length: 0\r\n\r\n"), AWAY,
    ),
    "no challenge": (reply(401), LOGIN),
    "JSON twice": (reply(200, b'{"schemaVersion":2,"schemaVersion":2}'), LOSS),
    "keys in other case": (reply(200, b'{"SchemaVersion":2}'), LOSS),
    "not a number": (reply(200, b'{"schemaVersion":NaN}'), LOSS),
    "infinity": (reply(200, b'{"schemaVersion":2,"x":-Infinity}'), LOSS),
    "a byte order mark": (reply(200, b'\xef\xbb\xbf{"schemaVersion":2}'), LOSS),
    "nested deeply": (reply(200, b"[" * 100_000), LOSS),
    "a number of a million digits": (reply(200, b'{"schemaVersion":' + b"2" * 1_000_000 + b"}"), LOSS),
    "schema 1": (reply(200, b'{"schemaVersion":1,"fsLayers":[]}'), NOT_NOW),
}  # fmt: skip


@pytest.mark.parametrize("what", MANIFEST_ANSWERS)
def test_answers_for_a_manifest(cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image, what: str) -> None:
    liar, before = liars(), holdings(daemon)
    answer, code = MANIFEST_ANSWERS[what]
    liar.routes["/v2/app/manifests/latest"] = answer
    refused_and_gone(cri, daemon, liar, before, {code})
    liar.serve(honest)
    cri.pull(f"{liar.address}/app")
    cri.remove_image(f"{liar.address}/app")
    assert same(daemon, before)


def refused_and_gone(
    cri: Cri, daemon: Daemon, liar: Lying, before: list[str], codes: set[grpc.StatusCode], name: str = "app"
) -> str:
    """A pull with credentials must fail so, name the registry, and leave nothing; what it said."""
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{liar.address}/{name}", auth=pb.AuthConfig(username="ann", password=SECRET), limit=15)
    said = caught.value.details()
    assert caught.value.code() in codes, f"{caught.value.code()}: {said}"
    assert liar.address in said
    assert SECRET not in said
    assert BASIC not in said
    assert cri.image(f"{liar.address}/{name}") is None
    assert same(daemon, before)
    return said


def described(data: bytes, kind: str, **more: object) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


OCI = "application/vnd.oci.image"
CONFIG_KIND, LAYER_KIND = f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"
Change = Callable[[dict], object]


def with_layers(**change: object) -> Change:
    return lambda manifest: [layer.update(change) for layer in manifest["layers"]]


MANIFESTS: dict[str, tuple[Change, grpc.StatusCode]] = {
    "an index and a manifest at once": (lambda m: m.update(manifests=[]), LOSS),
    "another type than it was sent as": (lambda m: m.update(mediaType=INDEX), LOSS),
    "a negative size": (with_layers(size=-1), LOSS),
    "a size beyond all": (with_layers(size=2**63), LOSS),
    "half a byte": (with_layers(size=1.5), LOSS),
    "a size as text": (with_layers(size="5"), LOSS),
    "a digest that is a path": (with_layers(digest="sha256:../../x"), LOSS),
    "a digest in upper case": (with_layers(digest=f"sha256:{HEX.upper()}"), LOSS),
    "a digest of another kind": (with_layers(digest=f"sha512:{HEX}{HEX}"), LOSS),
    "fifteen thousand layers": (lambda m: m.update(layers=m["layers"] * 15_000), NOT_NOW),
    "more layers than the configuration has": (lambda m: m.update(layers=m["layers"] * 2), LOSS),
    "no layers": (lambda m: m.pop("layers"), LOSS),
    "a configuration of 5 MiB": (lambda m: m["config"].update(size=5 << 20), NOT_NOW),
    "an artifact": (lambda m: m["config"].update(mediaType="application/vnd.oci.empty.v1+json"), NOT_NOW),
    "layers of bytes": (with_layers(mediaType="application/octet-stream"), NOT_NOW),
    "layers of another file system": (with_layers(mediaType="application/vnd.erofs.layer.v1"), NOT_NOW),
    "encrypted layers": (with_layers(mediaType=f"{LAYER_KIND}+encrypted"), NOT_NOW),
    "foreign layers": (with_layers(mediaType=f"{OCI}.layer.nondistributable.v1.tar+gzip"), NOT_NOW),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_manifests(cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image, what: str) -> None:
    liar, elsewhere, before = liars(), liars(), holdings(daemon)
    change, code = MANIFESTS[what]
    manifest = json.loads(honest.manifest)
    for layer in manifest["layers"]:
        layer["urls"] = [f"http://{elsewhere.address}/layer"]  # nobody may go there
    change(manifest)
    liar.serve(replace(honest, manifest=json.dumps(manifest).encode()))
    refused_and_gone(cri, daemon, liar, before, {code})
    assert not elsewhere.seen


def test_urls_and_data_of_descriptors_are_not_looked_at(
    cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image
) -> None:
    liar, elsewhere = liars(), liars()
    manifest = json.loads(honest.manifest)
    for part in (manifest["config"], *manifest["layers"]):
        part.update(urls=[f"http://{elsewhere.address}/x"], data=base64.b64encode(b"something else").decode())
    liar.serve(replace(honest, manifest=json.dumps(manifest).encode()))
    cri.pull(f"{liar.address}/app")
    assert cri.image(f"{liar.address}/app").id == honest.id
    assert not elsewhere.seen
    cri.remove_image(honest.id)


@pytest.mark.parametrize("what", ["ten thousand manifests", "nested three deep", "another manifest than it says"])
def test_indexes(cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image, what: str) -> None:
    liar, before = liars(), holdings(daemon)
    liar.serve(honest)
    entry = described(honest.manifest, honest.media_type)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    match what:
        case "ten thousand manifests":
            top = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] * 10_000}).encode()
        case "nested three deep":
            top = index
            for _ in range(2):
                liar.routes[f"/v2/app/manifests/{digest(top)}"] = reply(200, top, {"Content-Type": INDEX})
                top = json.dumps({"schemaVersion": 2, "manifests": [described(top, INDEX)]}).encode()
        case _:
            top = index
            liar.routes[f"/v2/app/manifests/{honest.digest}"] = reply(200, honest.manifest + b" ")
    liar.routes["/v2/app/manifests/latest"] = reply(200, top, {"Content-Type": INDEX})
    refused_and_gone(cri, daemon, liar, before, {NOT_NOW, LOSS})


BLOB_ANSWERS: dict[str, Callable[[bytes], tuple[Answer, grpc.StatusCode]]] = {
    "other bytes of the same length": lambda blob: (reply(200, bytes(len(blob))), LOSS),
    "one byte less": lambda blob: (reply(200, blob[:-1], length=len(blob)), AWAY),
    "one byte more": lambda blob: (reply(200, blob + b"x"), LOSS),
    "one byte more in the end": lambda blob: (reply(200, blob + b"x", length=None), LOSS),
    "one byte at a time": lambda blob: (trickle, LOSS),
    "nothing after the first bytes": lambda blob: (stalling(blob[:10], len(blob)), AWAY),
    "no end": lambda blob: (endless, LOSS),
    "a part that nobody asked for": lambda blob: (reply(206, blob), AWAY),
    "encoded": lambda blob: (reply(200, gzip.compress(blob), {"Content-Encoding": "gzip"}), AWAY),
    "a redirect that is encoded, to nowhere": lambda blob: (
        reply(302, b"\x1f\x8b", {"Content-Encoding": "gzip", "Location": "/nowhere"}), grpc.StatusCode.NOT_FOUND
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BLOB_ANSWERS)
@pytest.mark.parametrize("blob", ["layer", "configuration"])
def test_answers_for_a_blob(
    cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image, what: str, blob: str
) -> None:
    liar, before = liars(), holdings(daemon)
    liar.serve(honest)
    content = honest.layers[0] if blob == "layer" else honest.config
    answer, code = BLOB_ANSWERS[what](content)
    liar.routes[f"/v2/app/blobs/{digest(content)}"] = answer
    refused_and_gone(cri, daemon, liar, before, {code})


def test_a_stalled_layer_is_slower_than_it_may(cri: Cri, daemon: Daemon, liars: Callable[[], Lying]) -> None:
    """A byte now and then of a large layer is a stall too."""
    liar, before = liars(), holdings(daemon)
    layer = Layer()
    layer.file("large", bytes(range(256)) * 4000)
    large = image([layer.tar()])
    manifest = json.loads(large.manifest)
    manifest["layers"][0]["size"] = 100_000
    liar.serve(replace(large, manifest=json.dumps(manifest).encode()))
    liar.routes[f"/v2/app/blobs/{digest(large.layers[0])}"] = trickle
    assert "stalled" in refused_and_gone(cri, daemon, liar, before, {AWAY})


def test_a_pull_that_is_cancelled_stops(cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image) -> None:
    """A registry that is slow and steady: the download ends soon after its only caller has left, and goes on behind
    what has come when somebody asks again."""
    liar, before, left = liars(), holdings(daemon), threading.Event()
    layer = Layer()
    layer.file("noise", secrets.token_bytes(600_000))
    slow = image([layer.tar()], {"Cmd": ["/noise"]})
    blob = slow.layers[0]
    liar.serve(slow)

    def steady(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(blob)))
        handler.end_headers()
        try:
            for at in range(0, len(blob) - 10_000, 5_000):
                handler.wfile.write(blob[at : at + 5_000])
                if handler.server.stopping.wait(0 if at < 200_000 else 0.2):
                    return
        except OSError:
            left.set()

    path = f"/v2/app/blobs/{digest(blob)}"
    liar.routes[path] = steady
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{liar.address}/app", limit=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert left.wait(15), "the download goes on"
    host.until("only the beginning is left", lambda: len(set(holdings(daemon)) - set(before)) == 1)

    def rest(handler: Handler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        where = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"}
        reply(206 if start else 200, blob[start:], where if start else None)(handler)

    liar.routes[path] = rest
    cri.pull(f"{liar.address}/app")
    asked = [said.get("Range", "") for _, where, said in liar.seen if where == path]
    assert (asked[0], asked[-1] > "bytes=2", len(asked)) == ("", True, 2)
    cri.remove_image(slow.id)
    assert same(daemon, before)


def test_a_redirect_gets_no_credentials_and_its_query_is_not_shown(
    cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image
) -> None:
    liar, store, before = liars(), liars(), holdings(daemon)
    liar.serve(honest)
    path = f"/v2/app/blobs/{digest(honest.layers[0])}"
    liar.routes[path] = guarded(redirect(f"http://{store.address}/b?token=signature-of-it"), BASIC, 'Basic realm="x"')
    store.routes["/b"] = lambda handler: reply(403, str(handler.headers).encode())(handler)
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{liar.address}/app", auth=pb.AuthConfig(username="ann", password=SECRET))
    assert caught.value.code() == DENIED
    assert store.address in caught.value.details()
    assert "signature-of-it" not in caught.value.details()
    assert all("Authorization" not in said for _, _, said in store.seen)
    assert same(daemon, before)


def test_token_servers(cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image) -> None:
    liar, tokens, before = liars(), liars(), holdings(daemon)
    realm = f'Bearer realm="http://{tokens.address}/t",service="a&scope=evil\\r\\nX: y",scope="repository:all:*"'
    liar.routes["/v2/app/manifests/latest"] = guarded(reply(200), "x", realm)
    for answer, code in (
        (reply(200, b" " * ((1 << 20) + 1)), AWAY),
        (endless, AWAY),
        (reply(200, b"[" * 100_000), AWAY),
        (reply(200, b'{"token":"a\\r\\nX: y"}'), AWAY),
        (reply(200, b'{"token":"t","expires_in":NaN}'), AWAY),
        (reply(200, gzip.compress(b'{"token":"t"}'), {"Content-Encoding": "gzip"}), AWAY),
        (redirect(f"http://{liar.address}/"), AWAY),
        (reply(200, b'{"token":"t","expires_in":-1e308}'), LOGIN),  # a token, which the registry refuses
    ):
        tokens.routes["/t"] = answer
        with pytest.raises(grpc.RpcError) as caught:
            cri.pull(f"{liar.address}/app", auth=pb.AuthConfig(username="ann", password=SECRET), limit=15)
        assert caught.value.code() == code, caught.value.details()
        assert SECRET not in caught.value.details()
    assert all(path.count("scope=") == 1 and "repository%3Aapp%3Apull" in path for _, path, _ in tokens.seen)
    assert same(daemon, before)


def test_a_name_that_leads_back_to_this_machine(cri: Cri, liars: Callable[[], Lying], honest: Image) -> None:
    """Nothing listens on port 1: that it was not tried is what the words say."""
    liar = liars()
    liar.routes["/v2/app/manifests/latest"] = redirect("http://0.0.0.0:1/x")
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{liar.address}/app")
    assert "link to this machine: not followed" in caught.value.details()


CONFIGS: dict[str, tuple[dict[str, object], grpc.StatusCode]] = {
    "for another machine": ({"architecture": "s390x" if socket.htons(1) != 1 else "ppc64"}, NOT_NOW),
    "for another system": ({"os": "windows"}, NOT_NOW),
    "a layer's digest that is a lie": ({"rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]}}, LOSS),
    "no diff ids": ({"rootfs": {"type": "layers", "diff_ids": []}}, LOSS),
    "a root of another type": ({"rootfs": {"type": "other", "diff_ids": [f"sha256:{HEX}"]}}, LOSS),
    "keys in other case": ({"Config": {"User": "0"}}, INVALID),
    "labels of 10 MB": ({"config": {"Labels": {str(n): "x" * 100_000 for n in range(30)}}}, INVALID),
    "a hundred thousand labels": ({"config": {"Labels": {f"k{n}": "" for n in range(100_000)}}}, INVALID),
    **{
        f"the user {user!r}": ({"config": {"User": user}}, INVALID)
        for user in ("4294967296", "2147483648", "-1", "0x0", " 0", "+0", "1_000", "\uff11\uff10", "\u0663", "0:0:0")
    },
    "a volume outside": ({"config": {"Volumes": {"/../../etc": {}}}}, INVALID),
    "a working directory of a descriptor": ({"config": {"WorkingDir": "/proc/self/fd/7"}}, INVALID),
    "a variable with NUL": ({"config": {"Env": ["A=b\0c"]}}, INVALID),
    "a variable without a name": ({"config": {"Env": ["PATH"]}}, INVALID),
    "a variable of 1 MB": ({"config": {"Env": ["A=" + "x" * (1 << 20)]}}, INVALID),
    **{f"the signal {name!r}": ({"config": {"StopSignal": name}}, INVALID) for name in ("SIGKILL;x", "999", "-1")},
}


@pytest.mark.parametrize("what", CONFIGS)
def test_configurations(cri: Cri, daemon: Daemon, liars: Callable[[], Lying], honest: Image, what: str) -> None:
    liar, before = liars(), holdings(daemon)
    change, code = CONFIGS[what]
    config = json.dumps({**json.loads(honest.config), **change}).encode()
    manifest = json.loads(honest.manifest)
    manifest["config"] = described(config, CONFIG_KIND)
    liar.serve(replace(honest, manifest=json.dumps(manifest).encode(), config=config))
    with pytest.raises(grpc.RpcError) as caught:
        cri.pull(f"{liar.address}/app")
    assert caught.value.code() == code, caught.value.details()
    assert f"{liar.address}/app" in caught.value.details()
    assert same(daemon, before)


def test_what_an_image_says_of_itself_is_only_its_own(
    cri: Cri, daemon: Daemon, liars: Callable[[], Lying], pods: Callable[[], Pod]
) -> None:
    """Labels in the namespaces of others, an absurd date, links as working directory and volume, LD_PRELOAD, and the
    OCI runtime as entry point."""
    liar = liars()
    layer = busybox_layer()
    layer.symlink("to-host", "/proc/1/root")
    layer.symlink("etc-of-host", "../../../../etc")
    labels = {"io.kubernetes.container.name": "evil", "io.kubernetes.pod.uid": "evil", "containerd.io/x": "evil",
              "org.systemd.property.X": "evil", "io.podman.annotations.x": "evil"}  # fmt: skip
    built = image([layer.tar()], {
        "Env": ["PATH=/bin", "LD_PRELOAD=/evil.so"], "Labels": labels, "WorkingDir": "/to-host",
        "Volumes": {"/etc-of-host/volume": {}}, "Entrypoint": ["/proc/self/exe"],
    })  # fmt: skip
    config = json.dumps({**json.loads(built.config), "created": "+300000-01-01T00:00:00Z"}).encode()
    manifest = {**json.loads(built.manifest), "config": described(config, CONFIG_KIND)}
    liar.serve(replace(built, manifest=json.dumps(manifest).encode(), config=config))
    cri.pull(f"{liar.address}/app")
    runtimes = {
        path: path.stat().st_mtime_ns for path in (Path("/usr/sbin/runc"), Path("/usr/bin/crun")) if path.exists()
    }
    pod = pods()
    pod.image = f"{liar.address}/app"
    outcome(pod.run)  # whatever comes of it, the OCI runtime on the host stays what it is
    container = pod.shell("sleep 60")
    annotations = cri.info(container)["runtimeSpec"].get("annotations", {})
    status = cri.container(container)
    assert "evil" not in json.dumps([annotations, dict(status.labels), dict(status.annotations)])
    assert "LD_PRELOAD=/evil.so" in cri.output(container, "sh", "-c", "env")
    assert "to-host" in cri.output(container, "ls", "-A", "/proc/self/cwd/").split()  # the container's own root
    assert not (Path("/etc") / "volume").exists()
    assert {path: path.stat().st_mtime_ns for path in runtimes} == runtimes
