"""Documents that the network worker reads and writes: bytes and values in, values out. All of it is pure.

conf_template     a network configuration made of the administrator's template and the node's pod CIDRs
conflist          network configurations, and what each plugin reads on its standard input
hostport          host ports as elements of nftables maps
plugin_arguments  what a pod's request becomes for plugins: CNI_ARGS and the values of capabilities (CNI's word)
result            what plugins answer: results and errors

Floor: the lowest of the worker, beside `links`. `conf_template` uses `conflist`, `result` uses `conflist`,
`plugin_arguments` uses `hostport`.
"""
