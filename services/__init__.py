"""The workers: image, storage, network and runtime, each a process of its own.

A service imports the worker's side of the bus, its own contract, the configuration and thin host helpers;
never another service, never the caller's side of the bus. import-linter checks it.
"""
