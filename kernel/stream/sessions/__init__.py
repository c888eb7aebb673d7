"""Sessions: a client's channels joined to open descriptors.

From the top floor down:
- exec_session: exec.
- attach_session: attach.
- remote_command: the common part of exec and attach.
- port_forward: connections into a pod.
- client_session: the base of every session.
- descriptor_io: descriptors to channels and back.
- end_status, resize: a client's report at the end, and the sizes of its terminal. Pure.
"""
