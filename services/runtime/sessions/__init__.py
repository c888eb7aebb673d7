"""Commands run in containers, and connections to containers' own input and output.

Floor: above `reaper`, `exits` and `context`; beside `pods` and `security`; below `containers`.

- `exec_sync`: ExecSync: a command whose output comes back as one reply
- `exec_attach`: sessions: commands and attaches whose descriptors are handed to the stream process
- `exec_process`: shared by both kinds of exec: the process specification, and killing all that a command started
- `output`: one stream of a command, read and kept up to a limit
- `descriptors`: both ends of a session's pipes
- `console`: a session's terminal, as the OCI runtime sends it
- `monitor_socket`: conmon's attach socket and control pipe
"""
