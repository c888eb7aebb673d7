"""CNI network configurations: parsed, checked, and turned into the standard input of each plugin. Pure.

The formats are those of the CNI specification 0.3.0 to 1.1.0, section 1: a `.conflist`, or a `.conf` or `.json` of one
plugin. A network's name and a plugin's type become names of files that root opens or runs, so only letters, digits and
`._-` are accepted in both (CVE-2021-20206).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from kernel.errors import InvalidInput

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""The versions of the specification that crisp supports, oldest first."""
SUFFIXES = (".conf", ".conflist", ".json")
MAX_BYTES = 1 << 20
_MAX_PLUGINS = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}", re.ASCII)


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin of a network's chain."""

    type: str
    conf: dict[str, object]
    capabilities: tuple[str, ...] = ()
    """The capabilities that it declares: the names of the run-time values that it is to be passed."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration."""

    name: str
    cni_version: str
    plugins: tuple[Plugin, ...]
    disable_check: bool = False
    disable_gc: bool = False

    @property
    def reports_status(self) -> bool:
        """Whether its plugins support STATUS and GC: from version 1.1 of the specification on."""
        return VERSIONS.index(self.cni_version) >= VERSIONS.index("1.1.0")

    @property
    def keeps_results(self) -> bool:
        """Whether its plugins support CHECK, and need the result of ADD for DEL: from version 0.4 on."""
        return VERSIONS.index(self.cni_version) >= VERSIONS.index("0.4.0")

    def declares(self, capability: str) -> bool:
        """Whether one of its plugins declares a capability."""
        return any(capability in plugin.capabilities for plugin in self.plugins)

    def binaries(self) -> tuple[str, ...]:
        """Return the names of all programs that the chain runs: the plugins and their address management (IPAM)."""
        names = [plugin.type for plugin in self.plugins]
        names += [kind for plugin in self.plugins if (kind := _ipam(plugin.conf).get("type")) and isinstance(kind, str)]
        return tuple(dict.fromkeys(names))

    def lease_dirs(self) -> tuple[str, ...]:
        """Return the folders that the configuration names for host-local's leases (`ipam.dataDir`)."""
        found = (_ipam(plugin.conf).get("dataDir") for plugin in self.plugins)
        return tuple(folder for folder in found if isinstance(folder, str) and folder)


def parse(data: bytes, file: str) -> Network:
    """Return the network that a file describes. InvalidInput names the file and the key that is wrong."""
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{file}: larger than {MAX_BYTES} bytes")
    try:
        top = msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"{file}: not a JSON object: {error}") from error
    plugins = top.get("plugins") if "plugins" in top or file.endswith(".conflist") else [top]
    if not isinstance(plugins, list) or not 0 < len(plugins) <= _MAX_PLUGINS:
        raise InvalidInput(f"{file}: plugins: must be a list of 1 to {_MAX_PLUGINS} plugins")
    return Network(
        name=_checked_name(top.get("name"), f"{file}: name"),
        cni_version=_version(top, file),
        plugins=tuple(_plugin(each, f"{file}: plugins[{index}]") for index, each in enumerate(plugins)),
        disable_check=top.get("disableCheck") in (True, "true"),
        disable_gc=top.get("disableGC") in (True, "true"),
    )


def choose(networks: Sequence[Network], default: str) -> Network | None:
    """Return the network named `default`, or the first one if `default` is empty; None if there is none."""
    return next((network for network in networks if not default or network.name == default), None)


def stdin(
    network: Network,
    plugin: Plugin,
    runtime_config: Mapping[str, object],
    previous: Mapping[str, object] | None,
    extra: Mapping[str, object] | None = None,
) -> bytes:
    """Return the JSON that a plugin reads on its standard input.

    It is the plugin's own part of the list, the values in `runtime_config` of capabilities that it declares, the result
    `previous` of the plugin before it, and the `extra` keys.
    """
    conf = {**plugin.conf, "name": network.name, "cniVersion": network.cni_version, **(extra or {})}
    declared = {name: value for name, value in runtime_config.items() if name in plugin.capabilities}
    if declared:
        conf["runtimeConfig"] = declared
    if previous is not None:
        conf["prevResult"] = previous
    return msgspec.json.encode(conf)


def _plugin(conf: object, where: str) -> Plugin:
    if not isinstance(conf, dict):
        raise InvalidInput(f"{where}: must be an object")
    kind = _checked_name(conf.get("type"), f"{where}.type")
    ipam = conf.get("ipam", {})
    if not isinstance(ipam, dict):
        raise InvalidInput(f"{where}.ipam: must be an object")
    if ipam.get("type"):
        _checked_name(ipam["type"], f"{where}.ipam.type")
    declared = conf.get("capabilities") or {}
    if not isinstance(declared, dict) or not all(isinstance(wanted, bool) for wanted in declared.values()):
        raise InvalidInput(f"{where}.capabilities: must be an object of booleans")
    return Plugin(type=kind, conf=conf, capabilities=tuple(name for name, wanted in declared.items() if wanted))


def _checked_name(value: object, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidInput(
            f"{where}: {str(value)[:80]!r} is not a name",
            hint="letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return value


def _version(top: Mapping[str, object], file: str) -> str:
    """Return the newest version that the file offers (`cniVersion`, from 1.1 on `cniVersions`) and crisp supports."""
    listed = top.get("cniVersions")
    offered = [top.get("cniVersion"), *(listed if isinstance(listed, list) else [])]
    known = [version for version in VERSIONS if version in offered]
    if not known:
        raise InvalidInput(
            f"{file}: cniVersion: {str(top.get('cniVersion', 'none'))[:80]!r} is not a version that crisp supports",
            hint=f"use one of {', '.join(VERSIONS)}",
        )
    return known[-1]


def _ipam(conf: Mapping[str, object]) -> dict[str, object]:
    ipam = conf.get("ipam")
    return ipam if isinstance(ipam, dict) else {}
