"""What each process of crisp may do.

- `workers`: the table of processes: user, capabilities, filters, network, memory.
- `enforce`: turns a row of the table into the calling process's reality. There is no way back.
- `folders`: crisp's folders, with the owners that the rows need.
- `reality`: what /proc reports of a process, for comparison with its row.
"""
