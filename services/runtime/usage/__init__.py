"""What pods and containers use: CPU, memory, processes, network, devices.

Floor: above `cgroups`, beside `node` and `exits`; `containers`, `pods` and `methods` use it.

- `usage_reading`: reads cgroup files, /proc and network namespaces
- `cgroup_stats`: which cgroup files hold the statistics of the CRI, and what they mean. Pure.
- `cgroup_detail`: the same of what only metrics show. Pure.
- `pressure`: files of pressure stall information. Pure.
- `net_dev`: /proc/net/dev. Pure.
"""
