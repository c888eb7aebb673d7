"""Reading of the configuration: one YAML file with drop-ins, into the structures of `kernel.config.sections`.

`/etc/crisp/crisp.yaml` is read first, then `/etc/crisp/crisp.yaml.d/*.yaml` in order of name; if two files have a key,
the later one counts. An unknown or wrong key is an error that names file, line and key: the daemon then does not start.
Two daemons on one host differ in `root`, `run`, `cgroup_parent` and `network.config_dir`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from kernel.config.sections import BUILT_IN_HANDLERS, MOST_CREATE_SECONDS, PROXIES, Config, StreamSection
from kernel.errors import InvalidInput

DEFAULT_FILE = Path("/etc/crisp/crisp.yaml")
_CGROUP = re.compile(r"(/[A-Za-z0-9_:@-][A-Za-z0-9_.:@-]{0,200})+|[A-Za-z0-9_:@-]{1,200}\.slice", re.ASCII)


def load(file: Path | None = None) -> Config:
    """Read the configuration and its drop-ins from `file`, or from the default file, which may be missing.

    InvalidInput names file, line and key.
    """
    main = file or DEFAULT_FILE
    merged: dict[str, object] = {}
    found = [main] if main.exists() else []
    if file and not found:
        raise InvalidInput(f"configuration file {file} does not exist")
    for part in [*found, *sorted(Path(f"{main}.d").glob("*.yaml"))]:
        merged = _merge(merged, _read(part))
    config = _convert(merged)
    stream = config.stream
    if (stream.tls_key or stream.tls_ca) and not stream.tls_cert:  # the keys may be in different files
        raise InvalidInput(
            "configuration key 'stream.tls_cert' is empty, but 'stream.tls_key' or 'stream.tls_ca' is set"
        )
    return config


def with_environment(config: Config, environment: Mapping[str, str]) -> Config:
    """Return the configuration with the proxies of the daemon's environment, for each proxy that it does not set
    itself."""
    found = {key: next((environment[name] for name in names if environment.get(name)), "")
             for key, names in PROXIES.items()}  # fmt: skip
    missing = {key: value for key, value in found.items() if value and not getattr(config.image, key)}
    return msgspec.structs.replace(config, image=msgspec.structs.replace(config.image, **missing))


def effective_file(config: Config) -> Path:
    """Return the file of the configuration that the daemon runs with; the file in /etc may have changed since."""
    return config.paths.run / "config.yaml"


def dump(config: Config) -> str:
    """Return the effective configuration as YAML."""
    found = msgspec.to_builtins(config)
    handlers = found["runtime"]["handlers"]
    handlers.update({name: None for name in BUILT_IN_HANDLERS if name not in handlers})
    return yaml.safe_dump(found, sort_keys=False)


def _merge(under: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _read(path: Path) -> dict[str, object]:
    """Return the keys of one file, checked separately so that an error can name its line."""
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"configuration file {path} cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInput(f"configuration file {path}, line {line}: not YAML: {error.problem}") from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not isinstance(node, yaml.MappingNode):
        raise InvalidInput(f"configuration file {path}, line 1: must be a mapping of keys")
    _refuse_duplicates(node, path)
    try:
        _convert(data)
    except InvalidInput as error:
        key = error.message.rpartition(" - at ")[2] if " - at " in error.message else "$"
        line, name = _locate(node, error.message, key)
        raise InvalidInput(f"configuration file {path}, line {line}, key {name!r}: {error.message}") from error
    return data


def _with_built_in(data: dict[str, object]) -> dict[str, object]:
    """Return the keys with the built-in handlers in addition to the handlers that a file configures."""
    runtime = data.get("runtime")
    given = runtime.get("handlers") if isinstance(runtime, dict) else None
    if not isinstance(runtime, dict) or not isinstance(given, dict):
        return data
    merged = _merge({name: {"path": path} for name, path in BUILT_IN_HANDLERS.items()}, given)
    handlers = {name: handler for name, handler in merged.items() if handler is not None}
    return {**data, "runtime": {**runtime, "handlers": handlers}}


def _convert(data: dict[str, object]) -> Config:
    try:
        config = msgspec.convert(_with_built_in(data), Config)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error).replace("`", "'")) from error
    if config.runtime.default_handler not in config.runtime.handlers:
        raise InvalidInput(
            f"no runtime handler is named '{config.runtime.default_handler}' - at '$.runtime.default_handler'"
        )
    for index, root in enumerate(config.runtime.cgroup_roots):
        if not _CGROUP.fullmatch(root):
            raise InvalidInput(f"'{root}' is not a cgroup - at '$.runtime.cgroup_roots[{index}]'")
    if config.network.status_interval < 1:
        raise InvalidInput(f"{config.network.status_interval} is less than 1 - at '$.network.status_interval'")
    _check_stream(config.stream)
    for name, handler in config.runtime.handlers.items():
        where = f"$.runtime.handlers.{name}"
        if not 1 <= handler.create_timeout <= MOST_CREATE_SECONDS:
            raise InvalidInput(
                f"{handler.create_timeout} is not between 1 and {MOST_CREATE_SECONDS} - at '{where}.create_timeout'"
            )
        for key, path in (("path", handler.path), ("conmon", handler.conmon or "/"), ("root", handler.root or "/")):
            if not path.startswith("/"):
                raise InvalidInput(f"'{path}' is not an absolute path - at '{where}.{key}'")
        if handler.conmon_cgroup and not _CGROUP.fullmatch(handler.conmon_cgroup):
            raise InvalidInput(f"'{handler.conmon_cgroup}' is not a cgroup - at '{where}.conmon_cgroup'")
    if not (config.storage.image_store or "/").startswith("/"):
        raise InvalidInput(f"'{config.storage.image_store}' is not an absolute path - at '$.storage.image_store'")
    return config


def _check_stream(section: StreamSection) -> None:
    if not 0 <= section.port <= 65535:
        raise InvalidInput(f"{section.port} is not between 0 and 65535 - at '$.stream.port'")
    if section.idle_timeout < 0:
        raise InvalidInput(f"{section.idle_timeout} is less than 0 - at '$.stream.idle_timeout'")


def _refuse_duplicates(node: yaml.MappingNode, path: Path) -> None:
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            raise InvalidInput(
                f"configuration file {path}, line {key.start_mark.line + 1}, key {key.value!r}: given twice"
            )
        seen.add(key.value)
        if isinstance(value, yaml.MappingNode):
            _refuse_duplicates(value, path)


def _locate(node: yaml.MappingNode, message: str, where: str) -> tuple[int, str]:
    """Return the line and dotted name of the key to which msgspec's path (`$.image.user`) leads."""
    names = re.findall(r"\.\.\.|[^.\[\]$']+", where)
    unknown = re.search(r"unknown field '([^']*)'", message)
    if unknown:
        names.append(unknown.group(1))
    trail = _follow(node, names)
    return trail[-1][0] if trail else node.start_mark.line + 1, ".".join(name for _, name in trail) or ".".join(names)


def _follow(node: yaml.Node, names: list[str]) -> list[tuple[int, str]]:
    """Yield line and name of each key on the path; `...` in msgspec's path stands for any key of a free mapping."""
    if not names or not isinstance(node, yaml.MappingNode):
        return []
    longest: list[tuple[int, str]] = []
    for key, value in node.value:
        if names[0] in ("...", key.value):
            trail = [(key.start_mark.line + 1, str(key.value)), *_follow(value, names[1:])]
            longest = max(longest, trail, key=len)
    return longest
