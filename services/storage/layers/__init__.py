"""Layers: unpacked, listed, checked, exported. Above `tar`, `trees` and `confined`; beside `checkpoints` and `trust`.

- layer_store: the folder of layers; a layer is whole or not there
- record: the contents of a layer's folder
- blob: a layer's blob before it is unpacked
- children: the processes that a layer goes through
- hash_pump: the hash between them, and their pipes
- report: the result of an unpack, or the error that explains its failure (pure)
- unverified: layers to be checked after the host went down uncleanly
- checking: whether a layer's files still match its digest
- exporting: the tar of a layer, for an archive
"""
