"""Cgroups of pods, containers and conmons: their paths, their life, and the limits written into them.

Floor: above `spec` and `records`, beside `programs`; below all that knows pods and containers.

- `cgroup_path`: which path or slice a pod, container or conmon has. Pure.
- `hierarchies`: where the host has mounted cgroups, and with which controllers
- `cgroup_tree`: make, fill, count, empty and remove a cgroup
- `made_cgroups`: the note of the levels that this worker made, and may remove
- `limit_files`: limits written into the files of a cgroup, all or none
- `systemd`: slices and scopes, made and ended by calls to systemd
- `dbus`: the messages of these calls. Pure.
"""
