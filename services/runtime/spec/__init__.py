"""The OCI runtime specification (config.json) of a container, made of CRI fields. Pure: no file is read here.

Floor: above `kernel` only; `node`, `security`, `containers`, `pods` and `sessions` use it. The modules:

- `oci_spec`: puts the whole together; namespaces, masked paths. `inputs`: its inputs beside the request.
- `process_spec`: `process`. `exec_spec`: the same of a command in a running container.
- `oci_mounts`: `mounts`. `container_annotations`: `annotations`. `sysctl`: `linux.sysctl`.
- `resources`: `linux.resources`. `limits`: limits as OCI fields and as cgroup files; updates and sums of them.
- `security_context/`: user, capabilities, seccomp, AppArmor, SELinux.
- `user_namespace_spec`: changes for a pod with a user namespace. `mapping`: whether such a namespace has an id.
- `handler_rules`: changes for the runtime handler. `additions`: changes for CDI, hooks and classes of resources.

The module that implements each CRI field (`sc` is `linux.security_context`, `res` is `linux.resources`):

| CRI field | OCI field | module |
|---|---|---|
| command, args, working_dir, envs, tty | process.args, cwd, env, terminal | process_spec |
| res.oom_score_adj, sc.no_new_privs | process.oomScoreAdj, noNewPrivileges | process_spec |
| sc.run_as_user, run_as_username, run_as_group | process.user.uid, gid | security_context.user |
| sc.supplemental_groups, supplemental_groups_policy | process.user.additionalGids | security_context.user |
| sc.capabilities, sc.privileged | process.capabilities | security_context.capabilities |
| sc.seccomp | linux.seccomp | security_context.seccomp_profile, seccomp_rules |
| sc.apparmor | process.apparmorProfile | security_context.confinement |
| sc.selinux_options | process.selinuxLabel, linux.mountLabel | security_context.confinement |
| sc.readonly_rootfs, sc.masked_paths, sc.readonly_paths | root.readonly, linux.maskedPaths, readonlyPaths | oci_spec |
| sc.namespace_options (network, pid, ipc) | linux.namespaces | oci_spec |
| sc.namespace_options.target_id | linux.namespaces, path of `pid` | oci_spec; found by runtime.containers.plan |
| sc.namespace_options.userns_options | linux.uidMappings, gidMappings | user_namespace_spec |
| mounts[], propagation, readonly, recursive_read_only | mounts, linux.rootfsPropagation | oci_mounts |
| devices, CDI_devices | linux.devices, linux.resources.devices | oci_spec, resources; found by runtime.node.devices |
| res.cpu_*, memory_*, cpuset_*, hugepage_limits, unified | linux.resources.cpu, memory, ... | limits |
| linux.sysctls (pod) | linux.sysctl | sysctl |
| log_path, stdin, stdin_once | none: for conmon | runtime.programs: container_log, conmon |
| stop_signal | none | runtime.exits: stop_signal, stop |
| annotations | annotations | container_annotations, handler_rules |
"""
