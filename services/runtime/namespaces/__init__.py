"""Namespaces of pods, and the host's side of containers' mounts.

Floor: beside `spec` and `records`, above `kernel` only; `containers`, `checkpoints` and `pods` use it.

- `namespace_pins`: IPC and UTS namespaces of a pod, /dev/shm, mounts taken off
- `user_namespace`: a user namespace with the namespaces that it owns
- `mapped_mounts`: id-mapped copies of volumes, for pods with a user namespace
- `mount_sources`: the sources of a request's mounts on the host
- `slow_sources`: whether such sources answer, if their file systems could hang
- `declared_volumes`: folders for the volumes that an image declares
- `mount_table`: the mounts in /proc/PID/mountinfo
"""
