"""The network worker: pods' network namespaces, CNI plugins and host ports. README.md draws its floors.

methods         the bus methods
pods            pods joining and leaving, host ports, connections into pods
plugins         CNI plugins and their configurations
records         the records of pods, claims, and leases
documents       formats of CNI and nftables; pure
links           namespaces, links and packet filter, through system calls and netlink
"""
