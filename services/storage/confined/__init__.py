"""Confined children: privileges that they drop, system calls that they keep, and their answers. Beside `trees`.

- confine: namespaces, root directory and capabilities, in the child
- system_calls: the lists of system calls that a filter allows, each call with its reason
- answer: how a child ends, in the child
- refusal: a child's answer as an error, in the worker
"""
