"""The registry protocol and its connections, one layer over another.

address        URLs, and the hosts that a registry may lead to (pure)
blob_body      a blob as it arrives
certificates   TLS settings by registry: certs.d
challenge      WWW-Authenticate and the answers of token servers (pure)
distribution   manifests and blobs of one repository at one endpoint
failures       why a connection failed, and whether it is worth another try
http_connection  one connection: h11 and a socket
proxies        which proxy leads to a host (pure)
refusals       the error for an answer that is no success
registries     the endpoints of a reference, by registries.conf (pure)
response       an answer whose header has been read
sockets        TCP connections to a registry and to the hosts that it names
tokens         bearer tokens, and how they are fetched
transport      requests over the connections of one job

Floor: above `documents`; knows neither the blob folder nor pulls. `distribution` uses `tokens` and `blob_body`, these
use `transport`, that uses `response`, `http_connection` and `sockets`, all use `address` and `failures`.
"""
