"""Media types of the OCI image specification (media-types.md) and of Docker's schema 2. Pure."""

from __future__ import annotations

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
"""The manifests and indexes that crisp requests."""
INDEXES = (OCI_INDEX, DOCKER_INDEX)
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
"""The beginning of the media types of Docker's schema 1."""
GENERIC = ("", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream")
"""Content types that do not identify the kind of a manifest."""

CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")

LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = f"{LAYER_TAR}+gzip"
LAYER_ZSTD = f"{LAYER_TAR}+zstd"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
LAYERS = (LAYER_TAR, LAYER_GZIP, LAYER_ZSTD, _DOCKER_LAYER, f"{_DOCKER_LAYER}.gzip", f"{_DOCKER_LAYER}.zstd")
_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
FOREIGN_LAYERS = (
    _NONDISTRIBUTABLE,
    f"{_NONDISTRIBUTABLE}+gzip",
    f"{_NONDISTRIBUTABLE}+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)
"""Layers that a registry need not have (foreign or non-distributable)."""
ENCRYPTED = "+encrypted"
"""The end of the media types of encrypted layers."""
