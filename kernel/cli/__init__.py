"""`crisp`, the command line: a client of the CRI socket, and of two bus endpoints of the daemon. See README.md.

It keeps no state and starts nothing but what the daemon's sockets offer; only `crisp daemon` becomes the daemon itself.

From the top floor down:
- main: the entry point.
- command_table: names and arguments of the commands.
- commands: what they do.
- usage: the tables of `crisp top`.
- context: what every command gets.
- daemon_client, spdy_client: calls to the front, the supervisor and the network worker; sessions of the stream process.
- lookup: which pod or container a text names.
- log_files, output, terminal, exit_status: a container's log; what people and programs see; the terminal; statuses.
"""
