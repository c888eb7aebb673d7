"""The node's additions to containers beside their requests: configuration, files of the administrator, devices.

Floor: above `cgroups` and `spec`, beside `usage` and `exits`; `containers` and `pods` use it.

- `gather`: reads the host for the modules below that are pure
- `defaults`: ulimits, variables, sysctls, mounts, time zone, umask of the configuration. Pure.
- `cdi`: the additions of CDI devices. Pure.
- `hooks_d`: the OCI hooks that apply. Pure.
- `resource_class`, `blockio`: classes of block I/O and RDT, and their settings. Pure.
- `admin_files`: files that only root can have written
- `devices`: devices looked up on the host
- `host_support`: controllers, capabilities and names of the host
"""
