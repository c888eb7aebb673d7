"""The stubs of the .proto files of the CRI, made by tests/tools/make_proto.py; not edited by hand."""
