"""crisp's kernel: everything but the four workers.

Processes, which do not know each other:

- `front`: the CRI over gRPC. `stream`: sessions of exec, attach and port-forward with their clients.
- `supervisor`: starts, watches and restarts the others, and keeps the state; its spawner forks them.
- `cli`: the command line, a client of the front and of the supervisor.

What they and the workers share, top to bottom:

- `cri`: the CRI's messages, generated; for the front and the command line alone.
- `state`: what is remembered. `bus`: messages between processes. `contracts`: what these messages are.
- `host`: system calls, programs, tasks, files; no policy.
- `config`: the configuration. `log`: the one log format. `version`: this version of crisp. `formats`: file formats
  that others define.
- `ids`: ids and their checks. `errors`: the closed set of errors.

The kernel imports no service: it knows them by name, entry point and privileges
(`kernel.supervisor.privileges.workers`) and by their contracts.
"""
