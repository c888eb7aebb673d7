"""Ends of containers: observed, requested by the stop signal, or forced.

Floor: above `cgroups` and `records`; below pods, sessions and containers.

- `container_ends`: follows each container to its end, and finds out how it ended
- `proc_connector`: exit codes of processes that are not this worker's children, from the kernel's process events
- `stop`: the stop signal, the wait, and SIGKILL
- `stop_signal`: the names and numbers of stop signals. Pure.
"""
