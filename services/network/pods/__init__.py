"""Pods on the network: how they join and leave it, their host ports, and connections into them.

dial            connections into pods for port-forwards
forwarding      the nftables table of host ports in force
leaving         how a pod leaves: the steps before DEL, DEL, and the steps after it
pod_network     reads a pod's network from the kernel, for `crisp net`
pod_ports       the host ports of pods that crisp forwards
pod_table       the pods: the steps by which one joins, and the record of each

Floor: the highest below `methods`. `pod_table` uses `leaving` and `pod_ports`, `leaving` uses `pod_ports`, which
uses `forwarding`.
"""
