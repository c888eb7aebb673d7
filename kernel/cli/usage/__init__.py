"""The content of `crisp top`: resource usage of crisp's processes, of pods and of containers.

From the top floor down:
- screen: the live view on a terminal.
- view: columns, sort orders and keys. Pure.
- processes: readings of crisp's own processes, made with psutil.
- pods: readings of pods and containers, from CRI statistics. Pure.
- rows: rows of a table, from two readings. Pure.
"""
