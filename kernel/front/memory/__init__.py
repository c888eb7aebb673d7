"""The front's memory: all data that lasts as long as the process, and is made again after its restart.

- replica: the records, as the supervisor has them on disk
- record_changes: a record before and after a commit
- image_index: images by their names
- container_waiters: callers that wait for a change of a container's record
- subscribers: the streams of GetContainerEvents
- list_items: items of lists, serialised
- stats_items: statistics as items of lists, serialised
- stats_memory: the last readings, and when to read again
- image_memory: pulls under way, sizes of the file systems
- pending_sessions: exec, attach and port-forward sessions whose clients have not connected yet
- short_names: the references that an image's short name stands for

The floor: above `kernel.front.requests` and `kernel.front.responses`, below `kernel.front.context`, which holds one of
each.
"""
