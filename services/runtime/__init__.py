"""The runtime worker: namespaces of pods, containers through conmon and the OCI runtime, exec, statistics, exits.

It runs as root; see the README for its floors, of which each imports only those below:

- `methods`: what the bus can call, each a few lines
- `inventory`, `platform_report`: what the worker holds on the host, and what the host can do
- `containers`: created, started, updated, stopped, removed
- `checkpoints`: dumped and restored through CRIU
- `pods`, `sessions`, `security`: what containers share; exec and attach; seccomp, AppArmor, SELinux
- `reaper`: the process that outlives this one, to report the exit codes of sessions
- `node`, `usage`, `exits`: what the node's files add to containers; statistics; ends of containers
- `context`: what all of the above work with
- `cgroups`, `programs`: cgroups; one module for each external program
- `namespaces`, `spec`, `records`: pinned namespaces and mounts; requests turned into OCI specifications, pure; what is
  kept on disk and in memory
"""
