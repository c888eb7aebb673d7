"""The error that ends a connection. Pure."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer has broken the protocol in a way that ends the connection; its text names the reason.

    The connection cannot be used any more: send `Connection.go_away(error=True)`, and close.
    """
