"""Usage of pods and containers: CPU, memory, processes, network, devices.

Floor: above `cgroups`, beside `node` and `exits`; `containers`, `pods` and `methods` use it.

- `usage_reading`: reads cgroup files, /proc and network namespaces
- `cgroup_stats`: the cgroup files with the statistics of the CRI, and their meaning. Pure.
- `cgroup_detail`: the same for values that only metrics show. Pure.
- `pressure`: files of pressure stall information. Pure.
- `net_dev`: /proc/net/dev. Pure.
"""
