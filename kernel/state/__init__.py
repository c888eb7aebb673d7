"""What crisp remembers, and what follows from it.

- `store`: the records on disk, in SQLite. `thread`: the store on the one thread that may touch it.
- `lifecycle`: the states of sandboxes and containers, and the changes between them. Pure.
- `intents`: what start-up does with each intent that a crash has left. Pure.
- `recover`: how records and the host are brought together. Pure.
"""
