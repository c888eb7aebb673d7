"""Platforms of images, and those that the host can run (image-spec, image-index.md, `platform`). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from kernel.errors import InvalidInput

_LOWEST = {"arm": 5, "amd64": 1, "arm64": 8}
"""The lowest variant of architectures whose later variants run programs for the earlier ones."""
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "mips64": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}
"""Architecture and variant by the machine that uname(2) reports, if they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Operating system, architecture and variant, by Go's names (GOOS, GOARCH)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse(text: str) -> Platform:
    """Return the platform of `os/architecture[/variant]`, the configuration's `image.platform`. InvalidInput if it is
    malformed."""
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isalnum() for part in parts):
        raise InvalidInput(f"image.platform {text!r} is not os/architecture[/variant]")
    return Platform(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else "")


def of_host(machine: str) -> Platform:
    """Return the platform of a Linux host whose machine is `machine` (uname(2))."""
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform(os="linux", architecture=architecture, variant=variant)


def runnable(platform: Platform) -> list[Platform]:
    """Return the platforms whose programs run on `platform`, the best first."""
    lowest = _LOWEST.get(platform.architecture)
    variants = [platform.variant]
    digits = platform.variant.removeprefix("v")
    if lowest is not None and platform.variant == f"v{digits}" and digits.isascii() and digits.isdigit():
        variants += [f"v{level}" for level in range(int(digits[:2]) - 1, lowest - 1, -1)]
    if platform.architecture in ("amd64", "arm64") and not platform.variant:
        variants.append(f"v{lowest}")  # no variant and the lowest one mean the same
    variants += [""] if "" not in variants else []
    return [Platform(os=platform.os, architecture=platform.architecture, variant=variant) for variant in variants]
