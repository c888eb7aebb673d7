"""What the runtime worker remembers of its pods and containers, on disk and in memory.

Floor: imports nothing of the worker.

- `bundle`: the folders of pods and containers, and the JSON files in them
- `container`: a container in memory, and what is reported about it
- `watchers`: the queues of those who watch for changes
"""
