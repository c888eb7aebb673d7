"""The runtime worker's records of its pods and containers, on disk and in memory.

Floor: imports no other module of the worker.

- `bundle`: the folders of pods and containers, and the JSON files in them
- `container`: a container in memory, and the report about it
- `watchers`: the queues of calls that watch for changes
"""
