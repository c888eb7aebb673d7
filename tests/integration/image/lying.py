"""A registry of the tests' own that can be told to lie, and the tokens' server that belongs to it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deploy.demo_image import Image

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with what the server has for the path."""

    protocol_version = "HTTP/1.1"
    server: Lying

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        answer = self.server.routes.get(self.path) or self.server.routes.get(self.path.partition("?")[0])
        (answer or reply(404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "lies"}]}).encode()))(self)

    do_POST = do_GET

    def form(self) -> str:
        """The body of a POST."""
        return self.rfile.read(int(self.headers["Content-Length"])).decode()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Lying(ThreadingHTTPServer):
    """Serves `routes` on a free loopback port until closed; `seen` has each request's method, path and headers."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Answer] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.stopping = threading.Event()
        self._context = context
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request, client_address) -> None:
        """In the connection's own thread, so that a handshake that never ends stops nobody else."""
        if self._context is not None:
            try:
                request = self._context.wrap_socket(request, server_side=True)
            except OSError:
                return
        try:
            super().finish_request(request, client_address)
        except OSError:
            return  # the client went away, as it should from a liar
        finally:
            request.close()

    def serve(self, image: Image, repository: str = "app", tag: str = "latest") -> None:
        """Serve an image honestly."""
        for name in (tag, image.digest):
            self.routes[f"/v2/{repository}/manifests/{name}"] = reply(
                200, image.manifest, {"Content-Type": image.media_type}
            )
        for digest, blob in image.blobs.items():
            self.routes[f"/v2/{repository}/blobs/{digest}"] = reply(200, blob)

    def close(self) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


def reply(status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, length: int | None = -1) -> Answer:
    """An answer; `length` is the Content-Length, the body's own unless given, none where None."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        if length is None:
            handler.close_connection = True
        else:
            handler.send_header("Content-Length", str(len(body) if length == -1 else length))
        handler.end_headers()
        handler.wfile.write(body)
        if length not in (-1, None, len(body)):
            handler.close_connection = True

    return answer


def stalling(body: bytes, length: int) -> Answer:
    """Sends `body` of `length` announced bytes, then nothing more."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()
        handler.server.stopping.wait(30)
        handler.close_connection = True

    return answer


def redirect(location: str) -> Answer:
    """Sends elsewhere."""
    return reply(307, b"elsewhere", {"Location": location})


def guarded(inner: Answer, allowed: str, challenge: str) -> Answer:
    """Answers to those whose Authorization is `allowed`, and challenges the others."""

    def answer(handler: Handler) -> None:
        if handler.headers.get("Authorization") == allowed:
            inner(handler)
        else:
            reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": challenge})(handler)

    return answer
