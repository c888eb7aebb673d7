"""The spawner and the supervisor: the processes that start and keep all others. README.md draws their floors.

- `spawner`: the fork server, which is `crisp daemon` itself.
- `daemon`: the supervisor's process from its first line to its last.
- `methods`: the supervisor's bus methods.
- `supervise`: all workers together: adopt, reload, end; exits of containers.
- `keeper`: the life of one worker.
- `reload`: which changes of the configuration are possible, and which workers they concern. Pure.
- `processes`: the link to the spawner, and what is known of processes.
- `privileges`: what each process may do.
"""
