"""The privileges of each process of crisp.

- `workers`: the table of processes: user, capabilities, filters, network, memory.
- `enforce`: gives the calling process the privileges of a row, which cannot be undone.
- `folders`: crisp's folders, with the owners that the rows need.
- `reality`: the privileges of a process by /proc, for comparison with its row.
"""
