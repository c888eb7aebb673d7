"""crisp's kernel: supervisor, spawner, bus, contracts, state, configuration, CRI front and command line.

The kernel imports no service: it knows them by name, entry point and privileges
(`kernel.supervisor.privileges.workers`) and by what may be said to them (`kernel.contracts`).
"""
