"""Checkpoints of containers: taken through CRIU, written as one archive, and restored from.

Floor: above `pods`, below `containers`.

- `dump`: freezes a running container, has CRIU dump it, and writes the archive
- `checkpoint_archive`: the layout of that archive, which other tools read
- `target`: the place for that archive: its check, and the writing there
- `restore`: a container started by restoring the processes of a checkpoint
"""
