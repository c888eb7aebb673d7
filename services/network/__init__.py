"""The network worker: pods' network namespaces, CNI plugins and host ports. README.md draws its floors.

methods         the bus methods
pods            pods joining and leaving, host ports, connections into pods
plugins         CNI plugins and their configurations
records         what is remembered of pods
documents       formats of CNI and nftables; pure
links           namespaces, links and packet filter, through system calls and netlink
"""
