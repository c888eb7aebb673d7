"""Thin helpers over the host, without policy.

- `aio`: deadlines, background tasks whose errors are never lost, attempts that later callers join, locks by key.
- `process`: external programs. `thread`: throw-away threads.
- `files`: files replaced whole, and files that only root can have written.
- `proc`: /proc/PID/stat, the boot id. `pidfd`: processes watched and signalled without a race for their pids.
- `rights`: descriptors beside a message. `fdpass`: descriptors handed to a path, with an answer.
- `filters`: compiled filters of system calls. `bounding`: the capability bounding set.
- `id_mapped`: id-mapped mounts. `syscalls`: one wrapper for each system call that Python lacks.
"""
