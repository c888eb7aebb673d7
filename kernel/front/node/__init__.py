"""RPCs about the node, and those that only read the records.

- runtime_status: Version, Status, RuntimeConfig
- queries: lists and statuses of pods and containers
- pod_cidr: UpdateRuntimeConfig
- events: GetContainerEvents
- node_service: the service crisp.v1.Node (`kernel/cri/node.proto`), which the command line calls
- doctor: what the host holds without an owner, for `crisp doctor` and the front's start

The floor: above `kernel.front.images`, `facts` and `memory`; `kernel.front.recovery` and `kernel.front.rpcs` use it.
"""
