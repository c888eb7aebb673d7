"""Documents of registries and of the node's administrator: bytes in, checked values out. All of it is pure.

auth_file       containers-auth.json(5): the node's own credentials
configuration   image configurations, as far as a pull checks them
manifest        manifests and indexes
media_types     their media types
platforms       which platform an image is for, and which ones the host runs
selection       the manifest of an index for a platform
untrusted       shared by all of these: conversion, digests, quotations in errors

Floor: the lowest of the worker. `selection` uses `manifest` and `platforms`, both use `untrusted`; `auth_file` uses
none of them.
"""
