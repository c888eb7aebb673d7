"""The runtime worker: namespaces of pods, containers through conmon and the OCI runtime, exec, statistics, exits.

It runs as root. README.md draws its floors, each of which imports only those below:

- `methods`: the bus methods, each a few lines
- `inventory`, `platform_report`: reports of what the worker has on the host, and of what the host supports
- `containers`: created, started, updated, stopped, removed
- `checkpoints`: dumped and restored through CRIU
- `pods`, `sessions`, `security`: the parts that containers share; exec and attach; seccomp, AppArmor, SELinux
- `reaper`: the process that outlives this one, to report the exit codes of sessions
- `node`, `usage`, `exits`: the node's additions to containers; statistics; ends of containers
- `context`: the objects that all of the above share
- `cgroups`, `programs`: cgroups; one module for each external program
- `namespaces`, `spec`, `records`: pinned namespaces and mounts; requests turned into OCI specifications, pure; records
  on disk and in memory
"""
