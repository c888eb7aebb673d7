"""A network configuration made from a template and the node's pod CIDRs (CRI, UpdateRuntimeConfig). Pure.

A template is a configuration (a list or a single plugin) in which certain strings are placeholders. Their names are
those of containerd's templates: `{{.PodCIDR}}` becomes the first CIDR, `{{.PodCIDRRanges}}` host-local's ranges of all
CIDRs, `{{.Routes}}` a default route of each family. A placeholder is a whole string value, so nothing that the kubelet
sends can become another key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from kernel.errors import FailedPrecondition, InvalidInput
from services.network.documents import conflist

FILES = ("10-crisp-pods.conflist", "10-crisp-pods.conf")
"""File names of the configuration in `network.config_dir`: the first for a list, the second for a single plugin."""


def render(template: bytes, file: str, ranges: Sequence[str]) -> tuple[str, bytes]:
    """Return the configuration's file name and content.

    FailedPrecondition if the template does not become a valid configuration, InvalidInput if a CIDR is malformed.
    """
    try:
        tree = msgspec.json.decode(template)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FailedPrecondition(f"network.config_template {file}: not JSON: {error}") from error
    try:
        networks = [ipaddress.ip_network(each) for each in ranges]
    except ValueError as error:
        raise InvalidInput(f"pod_cidrs: {str(error)[:200]}") from error
    versions = dict.fromkeys(network.version for network in networks)
    values: dict[str, object] = {
        "{{.PodCIDR}}": ranges[0],
        "{{.PodCIDRRanges}}": [[{"subnet": each}] for each in ranges],
        "{{.Routes}}": [{"dst": "0.0.0.0/0" if version == 4 else "::/0"} for version in versions],
    }
    name = FILES[0] if isinstance(tree, dict) and "plugins" in tree else FILES[1]
    content = msgspec.json.format(msgspec.json.encode(_filled(tree, values)), indent=2) + b"\n"
    try:
        conflist.parse(content, name)
    except InvalidInput as error:
        raise FailedPrecondition(f"network.config_template {file}: {error.message}", hint=error.hint) from error
    return name, content


def _filled(tree: object, values: dict[str, object]) -> object:
    if isinstance(tree, dict):
        return {key: _filled(value, values) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(value, values) for value in tree]
    return values.get(tree.replace(" ", ""), tree) if isinstance(tree, str) else tree
