"""Sessions whose clients have not come yet: a token is valid once, for one kind of session, until it expires. Pure."""

from __future__ import annotations

from kernel.contracts.stream import ExpectRequest, Kind
from kernel.errors import ResourceExhausted
from kernel.ids import SessionId

MOST = 1000
"""The most sessions that may wait for their clients."""


class Tokens:
    """The expected sessions by token.

    Times are nanoseconds of CLOCK_BOOTTIME: neither a changed clock nor a sleeping machine prolongs a token's life.
    """

    def __init__(self) -> None:
        self._expected: dict[SessionId, ExpectRequest] = {}

    def expect(self, request: ExpectRequest, now_ns: int) -> None:
        """Expect a client from now on; raises ResourceExhausted if too many are expected already."""
        if len(self._expected) >= MOST and request.session not in self._expected:
            self._forget(now_ns)
            if len(self._expected) >= MOST:
                raise ResourceExhausted(f"{MOST} streaming sessions wait for their clients already")
        self._expected[request.session] = request

    def take(self, kind: Kind, token: str, now_ns: int) -> ExpectRequest | None:
        """Return the session that a client with this token asks for; None if there is no such session of this kind. A
        token of another kind stays valid for its own."""
        found = self._expected.get(SessionId(token))
        if found is None or found.kind is not kind or found.expires_ns <= now_ns:
            return None
        return self._expected.pop(found.session)

    def _forget(self, now_ns: int) -> None:
        self._expected = {key: one for key, one in self._expected.items() if one.expires_ns > now_ns}
