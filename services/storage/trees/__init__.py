"""Folders in which every name is a container's or an image's: opened, counted, limited, deleted. The lowest floor.

- within: opening a path below such a folder
- overlay_marks: whiteouts and opaque folders
- removal: deleting a tree of any depth
- passwd: /etc/passwd and /etc/group of a mounted root
- quota: limits of writable layers, by project quotas
- layer_size: bytes and inodes of a layer, by the lengths of its files
- usage: bytes and inodes of a writable layer, by its blocks on disk
- usage_cache: the sizes of all layers and writable layers as last counted (pure)
"""
