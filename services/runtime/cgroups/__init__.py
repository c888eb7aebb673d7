"""Cgroups of pods, containers and conmons: their paths, their life, and the limits written into them.

Floor: above `spec` and `records`, beside `programs`; below all modules that know pods and containers.

- `cgroup_path`: the path or slice of a pod, container or conmon. Pure.
- `hierarchies`: the host's mounts of cgroups, and their controllers
- `cgroup_tree`: make, fill, count, empty and remove a cgroup
- `made_cgroups`: the note of the levels that this worker made, and may remove
- `limit_files`: limits written into the files of a cgroup, all or none
- `systemd`: slices and scopes, made and ended by calls to systemd
- `dbus`: the messages of these calls. Pure.
"""
