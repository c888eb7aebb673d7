"""Formats that others have defined: bytes and text in, checked values out. All of it is pure.

reference        image references
registries_conf  containers-registries.conf(5)
strict_json      JSON that no two parsers read differently
tar_header       headers of tar files

Floor: above `kernel.ids` and `kernel.errors` alone; every other package may import it.
"""
