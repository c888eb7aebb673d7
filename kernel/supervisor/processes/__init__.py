"""The processes that the supervisor starts through the spawner.

- `spawner_link`: the messages between the two.
- `spawning`: the supervisor's end of the link, which replaces a spawner that died.
- `restart_policy`: when a process that died is started again, and when one hangs. Pure.
- `roster`: the file by which a new supervisor finds the workers of an earlier one.
- `notify`: reports to the service manager (sd_notify(3)).
"""
