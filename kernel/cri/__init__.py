"""The interfaces on the front's socket, as protobuf: the kubelet's (CRI v1) and crisp's own.

- cri.proto: the Container Runtime Interface, package runtime.v1
- node.proto: what the command line needs beside it, package crisp.v1
- generated: the stubs of both, made by tests/tools/make_proto.py

The floor: imported by `kernel.front` and `kernel.cli` alone.
"""
