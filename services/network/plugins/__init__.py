"""CNI plugins: which network is configured, and how its plugins are run.

cni             a network's chain of plugins: ADD, CHECK, DEL, STATUS and GC
conf_dir        the folder of network configurations: the network that pods join, and whether it is ready
folder_watch    notices changes in folders (inotify)
garbage         when GC is run
network_status  when STATUS is run
plugin_lock     the lock that running plugins hold, and how those of an earlier worker are ended
plugin_process  one plugin's process

Floor: above `documents` and `records`; below `pods`.
"""
