"""Containers: planned, launched, started, updated, stopped, removed, and taken up again after a restart.

Floor: below `methods` alone.

- `container_table`: all containers of the worker, and the steps of each
- `plan`: all decisions about a container, made before the host is changed
- `launch`: its bundle written and its process created, through conmon
- `start`: its process let run, or restored from a checkpoint
- `update`: its limits changed while it runs
- `monitors`: the cgroups of conmons, made and removed
- `removal`: all of it removed
"""
