"""The verbs of a container, one a module. They stand above `sessions` and `node`, below `pods`.

create        CreateContainer
create_plan   the record and the requests that CreateContainer makes
restore       CreateContainer from a checkpoint
start         StartContainer
stop          StopContainer, and the kill at the end of a pod
remove        RemoveContainer, and the undoing of a failed creation
updates       UpdateContainerResources, UpdatePodSandboxResources
checkpoint    CheckpointContainer
reopen_log    ReopenContainerLog
"""
