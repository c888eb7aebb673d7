"""The reaper: a small process that is the parent of the commands of exec sessions. README.md draws it.

Floor: beside `exits`, below `sessions`. All but `client` runs in the reaper and imports the standard library alone
(with modules of `kernel.host` that do the same).

- `program`: the process: its loop, and how it starts
- `connections`: its socket, the workers that are connected to it, and their requests
- `command`: one session's command in it, from the OCI runtime's start to its own end
- `descendants`: the processes that a command started
- `client`: the worker's side: finds the reaper, starts it, and has it start commands
"""
