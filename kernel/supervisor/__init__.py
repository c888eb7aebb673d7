"""The spawner and the supervisor: the processes that start and keep all others. README.md draws their floors.

- `spawner`: the fork server, which is `crisp daemon` itself.
- `daemon`: the entry point of the supervisor's process.
- `methods`: the supervisor's bus methods.
- `supervise`: all workers together: adopting, reloading and ending them; exits of containers.
- `keeper`: the life of one worker.
- `reload`: which changes of the configuration are possible, and which workers they concern. Pure.
- `processes`: the link to the spawner, and the data about processes.
- `privileges`: the privileges of each process.
"""
