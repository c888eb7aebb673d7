"""The files of checkpoints: a container's changes are written out, an archive or an image is read in.

Beside `layers`, above `tar`, `trees` and `confined`.

- parts: the names of a checkpoint's parts (pure)
- folder: a checkpoint's folder
- changes: the changes of a container in its root, written out and made again
- diff: a writable layer as a tar and a list of deleted paths
- archive: a checkpoint that is an archive
- image_layers: a checkpoint that is an image
- child: a confined child, run to its end
- unarchive: a child: reads an archive
"""
