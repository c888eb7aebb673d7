"""Sessions: a client's channels joined to open descriptors.

From the top floor down:
- exec_session: exec.
- attach_session: attach.
- remote_command: what exec and attach share.
- port_forward: connections into a pod.
- client_session: what every session has.
- descriptor_io: descriptors to channels and back.
- end_status, resize: what a client gets at the end, and sends of its terminal. Pure.
"""
