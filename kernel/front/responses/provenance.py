"""The origin of each part of a container's OCI specification: the request, the image, the configuration or a default.

It is meant for people, and is returned beside the specification in a verbose ContainerStatus. Pure. Keys are paths in
the specification. A part of the specification that comes from neither request, image nor configuration is `default`:
crisp adds it itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from kernel.config.sections import RuntimeSection
from kernel.contracts.oci import ImageConfig
from kernel.cri.generated import cri_pb2 as cri

Origin = Literal["request", "image", "configuration", "default"]
_Named = Mapping[str, object]


def of(
    spec: _Named, config: cri.ContainerConfig, pod: cri.PodSandboxConfig, image: ImageConfig, settings: RuntimeSection,
    handler: str,
) -> dict[str, Origin]:  # fmt: skip
    """Return the origins by path in `spec`.

    `config` and `pod` are the requests of CreateContainer and RunPodSandbox, `settings` is the administrator's
    configuration, `handler` is the pod's, empty for the default one.
    """
    return {
        **dict(_process(_part(spec, "process"), config, image, settings)),
        "root.readonly": "request" if config.linux.security_context.readonly_rootfs else "default",
        **dict(_mounts(spec, config, image, settings)),
        **dict(_annotations(_part(spec, "annotations"), config, pod, settings, handler)),
        **dict(_linux(_part(spec, "linux"), config, settings)),
        **({"hooks": "configuration"} if spec.get("hooks") else {}),
    }


def _process(
    process: _Named, config: cri.ContainerConfig, image: ImageConfig, settings: RuntimeSection
) -> Iterator[tuple[str, Origin]]:
    context = config.linux.security_context
    named = context.HasField("run_as_user") or context.run_as_username
    yield "process.args", "request" if config.command or config.args else "image"
    yield "process.cwd", _first(request=config.working_dir, image=image.working_dir)
    yield "process.user", _first(request=named, image=image.user)
    yield "process.user.additionalGids", "request" if context.supplemental_groups else "image"
    changed = context.capabilities.add_capabilities or context.capabilities.drop_capabilities or context.privileged
    yield "process.capabilities", _first(request=changed, configuration=True)
    yield "process.noNewPrivileges", _first(request=context.no_new_privs)
    yield "process.oomScoreAdj", _first(request=config.linux.resources.oom_score_adj)
    if process.get("rlimits"):
        yield "process.rlimits", _first(configuration=settings.default_ulimits)
    names = {
        "request": {env.key for env in config.envs},
        "image": {pair.partition("=")[0] for pair in image.env},
        "configuration": {pair.partition("=")[0] for pair in settings.default_env},
    }
    for pair in _items(process.get("env")):
        name = str(pair).partition("=")[0]
        yield f"process.env.{name}", _first(**{origin: name in known for origin, known in names.items()})


def _mounts(
    spec: _Named, config: cri.ContainerConfig, image: ImageConfig, settings: RuntimeSection
) -> Iterator[tuple[str, Origin]]:
    requested = {mount.container_path.rstrip("/") for mount in config.mounts}
    volumes = {volume.rstrip("/") for volume in image.volumes}
    usual = {
        "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/etc/hosts",
        "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv",
    }  # fmt: skip
    for mount in _items(spec.get("mounts")):
        path = str(mount.get("destination", "")).rstrip("/") if isinstance(mount, dict) else ""
        further = path not in usual and (settings.default_mounts_file or settings.timezone)
        yield f"mounts.{path}", _first(request=path in requested, image=path in volumes, configuration=further)


def _annotations(
    given: _Named, config: cri.ContainerConfig, pod: cri.PodSandboxConfig, settings: RuntimeSection, handler: str
) -> Iterator[tuple[str, Origin]]:
    found = settings.handlers.get(handler or settings.default_handler)
    defaults = found.default_annotations if found else {}
    for key, value in given.items():
        requested = value in (config.annotations.get(key), pod.annotations.get(key))
        yield f"annotations.{key}", _first(request=requested, configuration=defaults.get(key) == value)


def _linux(linux: _Named, config: cri.ContainerConfig, settings: RuntimeSection) -> Iterator[tuple[str, Origin]]:
    context, limits = config.linux.security_context, config.linux.resources
    yield "linux.namespaces", _first(request=context.HasField("namespace_options"))
    yield "linux.cgroupsPath", "default"
    requested = {
        "cpu": limits.cpu_shares or limits.cpu_quota or limits.cpu_period or limits.cpuset_cpus or limits.cpuset_mems,
        "memory": limits.memory_limit_in_bytes, "hugepageLimits": limits.hugepage_limits, "unified": limits.unified,
        "devices": config.devices or config.CDI_devices or context.privileged, "blockIO": True,
    }  # fmt: skip
    for name in _part(linux, "resources"):
        configured = name == "pids" and settings.default_pids_limit
        yield f"linux.resources.{name}", _first(request=requested.get(name), configuration=configured)
    origins = {
        "devices": _first(request=requested["devices"], configuration=settings.additional_devices),
        "seccomp": _first(request=context.HasField("seccomp") or context.seccomp_profile_path, configuration=True),
        "maskedPaths": _first(request=context.masked_paths),
        "readonlyPaths": _first(request=context.readonly_paths),
        "sysctl": _first(request=True),
        "uidMappings": _first(request=True),
        "gidMappings": _first(request=True),
    }
    for name, origin in origins.items():
        if linux.get(name):
            yield f"linux.{name}", origin


def _first(*, request: object = None, image: object = None, configuration: object = None) -> Origin:
    """Return the first origin, in order of precedence, whose argument is true."""
    if request:
        return "request"
    if image:
        return "image"
    return "configuration" if configuration else "default"


def _part(whole: _Named, name: str) -> _Named:
    found = whole.get(name)
    return found if isinstance(found, dict) else {}


def _items(found: object) -> list[object]:
    return found if isinstance(found, list) else []
