"""The configuration: defaults, drop-ins, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kernel.config.reading import dump, load, with_environment
from kernel.config.sections import Config, ImageSection
from kernel.errors import InvalidInput
from kernel.ids import ContainerId, Digest, SandboxId


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path / "c.yaml", "")) == Config()


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere.yaml does not exist"):
        load(tmp_path / "nowhere.yaml")


def test_drop_ins_win_in_order_of_name_and_key_by_key(tmp_path: Path) -> None:
    main = write(tmp_path / "c.yaml", "root: /a\nimage: {parallel_downloads: 2, user: someone}\n")
    write(tmp_path / "c.yaml.d" / "20.yaml", "image: {parallel_downloads: 4}\n")
    write(tmp_path / "c.yaml.d" / "10.yaml", "image: {parallel_downloads: 3}\nrun: /b\n")
    config = load(main)
    assert (config.root, config.run, config.image.parallel_downloads, config.image.user) == ("/a", "/b", 4, "someone")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("root: /a\nrooot: /b\n", ["line 2", "'rooot'", "unknown field"]),
        ("image:\n  user: x\n  colour: red\n", ["line 3", "'image.colour'"]),
        ("image:\n  parallel_downloads: many\n", ["line 2", "'image.parallel_downloads'", "int"]),
        ("log_level: loud\n", ["line 1", "'log_level'"]),
        ("runtime:\n  default_handler: runq\n", ["line 2", "'runtime.default_handler'", "runq"]),
        ("runtime:\n  handlers:\n    runc:\n      paath: /x\n", ["line 4", "'runtime.handlers.runc.paath'"]),
        ("runtime:\n  handlers:\n    runc:\n      path: x\n", ["line 4", "'runtime.handlers.runc.path'"]),
        ("runtime:\n  handlers:\n    runc: {path: /x, conmon: y}\n", ["'runtime.handlers.runc.conmon'", "absolute"]),
        ("runtime:\n  handlers:\n    runc: {path: /x, root: y}\n", ["'runtime.handlers.runc.root'"]),
        (
            "runtime: {handlers: {runc: {path: /x, conmon_cgroup: /a/../b}}}",
            ["'runtime.handlers.runc.conmon_cgroup'"],
        ),
        (
            "network: {status_interval: 0}",
            ["'network.status_interval'", "0.0 is less than 1"],
        ),
        (
            "runtime: {handlers: {runc: {path: /x, create_timeout: 241}}}",
            ["'runtime.handlers.runc.create_timeout'"],
        ),
        ("runtime: {cgroup_roots: [/a, ../b]}", ["line 1", "'runtime.cgroup_roots", "'../b'"]),
        ("stream: {port: 65536}", ["line 1", "'stream.port'", "65535"]),
        ("stream: {idle_timeout: -1}", ["line 1", "'stream.idle_timeout'"]),
        ("root: [\n", ["line 2", "not YAML"]),
        ("- a\n", ["line 1", "mapping"]),
        ("root: /a\nroot: /b\n", ["line 2", "'root'", "twice"]),
    ],
)
def test_a_wrong_file_names_file_line_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    file = write(tmp_path / "c.yaml", text)
    with pytest.raises(InvalidInput) as caught:
        load(file)
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_a_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    main = write(tmp_path / "c.yaml", "stream: {tls_key: /k}\n")
    with pytest.raises(InvalidInput, match=r"'stream\.tls_cert' is empty"):
        load(main)
    write(tmp_path / "c.yaml.d" / "x.yaml", "stream: {tls_cert: /c}\n")
    assert load(main).stream.tls_cert == "/c"


def test_a_wrong_drop_in_is_named(tmp_path: Path) -> None:
    main = write(tmp_path / "c.yaml", "root: /a\n")
    write(tmp_path / "c.yaml.d" / "x.yaml", "\nhue: 3\n")
    with pytest.raises(InvalidInput, match=r"x.yaml, line 2, key 'hue'"):
        load(main)


def test_handlers_are_given_beside_the_built_in_ones(tmp_path: Path) -> None:
    main = write(tmp_path / "c.yaml", "runtime: {handlers: {runc: {min_memory: 5}}}\n")
    write(tmp_path / "c.yaml.d" / "x.yaml", "runtime: {handlers: {extra: {path: /x}, crun: null}}\n")
    config = load(main)
    assert {name: one.path for name, one in config.runtime.handlers.items()} == {
        "runc": "/usr/sbin/runc",
        "extra": "/x",
    }
    assert config.runtime.handlers["runc"].min_memory == 5
    assert load(write(tmp_path / "again.yaml", dump(config))) == config
    with pytest.raises(InvalidInput, match="no runtime handler is named 'runc'"):
        load(write(tmp_path / "none.yaml", "runtime: {handlers: {runc: null}}\n"))


def test_what_is_dumped_reads_back(tmp_path: Path) -> None:
    config = load(write(tmp_path / "a.yaml", "root: /a\nruntime: {default_handler: crun}\n"))
    assert load(write(tmp_path / "b.yaml", dump(config))) == config
    assert yaml.safe_load(dump(config))["root"] == "/a"


def test_paths_are_made_of_checked_ids_only() -> None:
    paths = Config(root="/r", run="/n").paths
    digest = Digest("sha256:" + "a" * 64)
    assert paths.blob(digest) == Path("/r/image/blobs/sha256") / ("a" * 64)
    assert paths.rootfs(ContainerId("c" * 64)) == Path("/r/storage/containers") / ("c" * 64) / "rootfs"
    assert paths.netns(SandboxId("s" * 64)).parent == Path("/n/netns")
    with pytest.raises(InvalidInput):
        paths.blob(Digest("sha256:../../etc/passwd"))


def test_proxies_of_the_environment_stand_in_for_those_of_the_configuration() -> None:
    environment = {
        "HTTP_PROXY": "http://up:1",
        "http_proxy": "http://low:1",
        "https_proxy": "http://low:2",
        "NO_PROXY": "",
    }
    found = with_environment(Config(image=ImageSection(no_proxy="mine")), environment).image
    assert (found.http_proxy, found.https_proxy, found.no_proxy) == ("http://up:1", "http://low:2", "mine")
    own = Config(image=ImageSection(http_proxy="http://own:1"))
    assert with_environment(own, environment).image.http_proxy == "http://own:1"
    assert with_environment(own, {}) == own


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "crisp.yaml"
    file.write_text("storage: {image_store: /images}\n")
    paths = load(file).paths
    assert paths.layers == Path("/images/layers")
    assert paths.containers == Path("/var/lib/crisp/storage/containers")
    file.write_text("storage: {image_store: images}\n")
    with pytest.raises(InvalidInput, match="not an absolute path"):
        load(file)
