"""Documents that the network worker reads and writes: bytes and values in, values out. All of it is pure.

conf_template     a network configuration made of the administrator's template and the node's pod CIDRs
conflist          network configurations, and the standard input of each plugin
hostport          host ports as elements of nftables maps
plugin_arguments  the values that plugins are passed about a pod: CNI_ARGS and capabilities (CNI's word)
result            the answers of plugins: results and errors

Floor: the lowest of the worker, beside `links`. `conf_template` uses `conflist`, `result` uses `conflist`,
`plugin_arguments` uses `hostport`.
"""
