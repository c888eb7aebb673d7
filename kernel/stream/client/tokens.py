"""Sessions whose clients are to come: each token counts once, for one kind of session and until it expires. Pure."""

from __future__ import annotations

from kernel.contracts.stream import ExpectRequest, Kind
from kernel.errors import ResourceExhausted
from kernel.ids import SessionId

MOST = 1000


class Tokens:
    """Times are CLOCK_BOOTTIME in nanoseconds: a clock that is set, or a machine that sleeps, prolongs nothing."""

    def __init__(self) -> None:
        self._expected: dict[SessionId, ExpectRequest] = {}

    def expect(self, request: ExpectRequest, now_ns: int) -> None:
        """From now on; ResourceExhausted where too many are still to come."""
        if len(self._expected) >= MOST and request.session not in self._expected:
            self._forget(now_ns)
            if len(self._expected) >= MOST:
                raise ResourceExhausted(f"{MOST} streaming sessions wait for their clients already")
        self._expected[request.session] = request

    def take(self, kind: Kind, token: str, now_ns: int) -> ExpectRequest | None:
        """What a client with this token came for; None where there is nothing, or nothing of this kind. The token of
        another kind stays good for its own."""
        found = self._expected.get(SessionId(token))
        if found is None or found.kind is not kind or found.expires_ns <= now_ns:
            return None
        return self._expected.pop(found.session)

    def _forget(self, now_ns: int) -> None:
        self._expected = {key: one for key, one in self._expected.items() if one.expires_ns > now_ns}
