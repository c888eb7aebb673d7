"""Image archives that the administrator loads.

archive_loading  an OCI layout or docker archive, and its blobs
tarball          the tar file: its members by name

Floor: beside `pull`; uses `blobs` and `documents`.
"""
