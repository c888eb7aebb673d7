"""The configuration.

sections           the keys, as frozen structures (pure)
paths              the paths of all files and folders below the configured ones (pure)
reading            the YAML file and its drop-ins, read and checked
registries_reader  registries.conf in force on this node
"""
