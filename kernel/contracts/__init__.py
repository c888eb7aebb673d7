"""What can be sent on the bus: a module per process that answers calls, and those that they share. No behaviour; pure.

- `definition`: how a contract is written: messages, methods, and the built-in method `hello`.
- `front`, `supervisor`, `stream`, `image`, `storage`, `network`, `runtime`: the contract of the process of that name.
- `records`: what the supervisor keeps on disk and the front in memory.
- `oci`, `stats`: values that several contracts carry.

docs/messages.md is made from these modules, by `tests/tools/make_messages.py`. docs/bus.md says how they travel, and
what a change of them needs.
"""
