"""The image worker: registries and blobs, with no privilege. README.md draws its floors.

methods         the bus methods
archives        image archives that the administrator loads
blobs           the folder of verified blobs
credentials     those of a request, and the node's own
documents       manifests, platforms, auth files; pure
download        a blob on its way into its file
endpoints       the endpoints of a reference, tried in their order
jobs            blocking work in threads
pull            resolve a reference, fetch a blob
registry        the registry protocol and its connections
signatures      signatures of images, as they are found
transfer        downloads that several callers follow
"""
