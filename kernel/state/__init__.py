"""The records that crisp keeps, and the decisions that follow from them.

- `store`: the records on disk, in SQLite. `thread`: the store on the one thread that may touch it.
- `lifecycle`: the states of sandboxes and containers, and the changes between them. Pure.
- `intents`: the flows that start-up finishes or undoes after a crash. Pure.
- `recover`: the repairs that make records and the host agree. Pure.
"""
