"""Root file systems of containers: planned, mounted or copied, and taken down. Above `layers`, below the methods.

- container_folders: the folder of each container, and the notes of which layers it uses
- root_store: roots and image volumes, mounted and removed
- overlay: overlay mounts
- mapped_overlay: the same over layers that a user namespace's users own
- vfs: copies of layers, if no overlay can be mounted
- fixup_layer: an extra layer on top of an image's, if the merged view would otherwise be wrong
- implied_dirs: directories that layers only imply
- mountpoints: plain folders and files in place of an image's links, at the OCI runtime's mount points
- merged_view: the merged view of a stack of layers, without a mount
"""
