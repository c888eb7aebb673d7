"""The configuration.

sections           the keys, as frozen structures (pure)
paths              where everything lies below the configured folders (pure)
reading            the YAML file and its drop-ins, read and checked
registries_reader  registries.conf in force on this node
"""
