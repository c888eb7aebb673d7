"""The front: the process that serves the CRI to the kubelet, and crisp's own gRPC service to the command line.

server         entry point: clients, replica, start-up, gRPC server
rpcs           the function that serves each RPC
recovery       start-up: loads the records, finishes or undoes the flows that a crash cut off, sweeps
pods/          RunPodSandbox, StopPodSandbox, RemovePodSandbox
containers/    CreateContainer and the other verbs of a container
sessions/      ExecSync; Exec, Attach and PortForward
node/          version, status, lists, events, and crisp's own service
watches        the watches of the other processes, which run as long as the front
stats/         statistics and metrics
images/        the ImageService: pulls, lists, removals, repair
facts          applies the runtime's reports to the records
flows          how flows run: repeats join, steps run side by side, failures are tried again
interceptor    deadline, trace, log line and status code of every RPC
context        the arguments of every RPC: the front's parts, and the call
memory/        records, readings, subscribers and sessions in memory
responses/     records and readings as messages of the CRI; pure
documents/     documents of the OCI, of checkpoints and of metrics; pure
requests/      messages of the CRI as contracts, checked field by field; pure

Each line imports only those below it (server / rpcs, recovery / pods / containers / sessions, node /
watches, stats, images / facts, flows, interceptor / context / memory / responses / documents, requests).
"""
