"""Namespaces, links, addresses, routes and packet filter of the host, through system calls and netlink.

netlink     messages: one request to the kernel, its answers, attributes
netns       network namespaces pinned at a path
nfnetlink   nftables tables, and flows of UDP
rtnetlink   links, addresses and routes

Floor: the lowest of the worker, beside `documents`. `rtnetlink` and `nfnetlink` use `netlink`. No module here knows of
pods or plugins.
"""
