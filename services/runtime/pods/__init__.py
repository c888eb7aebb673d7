"""Pods: the namespaces, /dev/shm, files, cgroup and pause process that a pod's containers share.

Floor: above `node`, `usage`, `exits` and `context`; beside `sessions` and `security`; below `containers`.

- `pod_table`: all pods of the worker: made, updated, stopped, removed, taken up after a restart
- `pod_state`: one pod in memory, and the report about it
- `pod_request`: the check of a request, and the host name and resolv.conf that it requests
- `parts`: the parts of a pod on the host, made and removed
- `limit`: the limits of a pod's cgroup
- `pause`: process 1 of a PID namespace that a pod's containers share
"""
