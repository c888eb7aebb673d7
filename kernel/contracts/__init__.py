"""The messages of the bus: a module per process that answers calls, and modules that these share. No behaviour; pure.

- `definition`: how a contract is written: messages, methods, and the built-in method `hello`.
- `front`, `supervisor`, `stream`, `image`, `storage`, `network`, `runtime`: the contract of the process of that name.
- `records`: the records that the supervisor keeps on disk and the front in memory.
- `oci`, `stats`: values that several contracts carry.

docs/messages.md is made from these modules, by `tests/tools/make_messages.py`. docs/bus.md describes how they are
sent, and how they may be changed.
"""
