"""CNI plugins: which network is configured, and how its plugins are run.

cni             a network's chain of plugins: ADD, CHECK, DEL, STATUS and GC
conf_dir        the folder of network configurations: the network that pods join, and whether it is ready
folder_watch    notices changes in folders (inotify)
garbage         runs GC once in a worker's life
network_status  runs STATUS now and then
plugin_lock     the lock that running plugins hold, and how those of an earlier worker are ended
plugin_process  one plugin's process

Floor: above `documents` and `records`; below `pods`.
"""
