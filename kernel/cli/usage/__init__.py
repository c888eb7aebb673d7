"""What `crisp top` shows: resource usage of crisp's processes, of pods and of containers.

From the top floor down:
- screen: the live view on a terminal.
- view: columns, sort orders and keys. Pure.
- processes: readings of crisp's own processes, with psutil.
- pods: readings of pods and containers, out of CRI statistics. Pure.
- rows: rows of a table, out of two readings. Pure.
"""
