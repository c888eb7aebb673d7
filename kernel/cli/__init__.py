"""`crisp`, the command line: a client of the CRI socket, and of two bus endpoints of the daemon. See README.md.

It keeps no state, and the daemon does the work; only `crisp daemon` becomes the daemon itself.

From the top floor down:
- main: the entry point.
- command_table: names and arguments of the commands.
- commands: the functions of the commands.
- usage: the tables of `crisp top`.
- context: the argument of every command.
- daemon_client, spdy_client: calls to the front, the supervisor and the network worker; sessions of the stream process.
- lookup: finding a pod or container by id or name.
- log_files, output, terminal, exit_status: a container's log; output for people and programs; the terminal; statuses.
"""
