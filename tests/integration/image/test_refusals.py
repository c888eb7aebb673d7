"""Refusals are told by their status and code, and repeat nothing else."""

from __future__ import annotations

import base64
import json

import pytest

from kernel.contracts.oci import Auth
from kernel.errors import Unavailable
from tests.integration.image.conftest import Worker
from tests.integration.image.lying import Lying, guarded, reply

SECRET = "hunter2-do-not-show"
ANN = Auth(username="ann", password=SECRET)
BASIC = f"Basic {base64.b64encode(f'ann:{SECRET}'.encode()).decode()}"


async def test_a_body_with_our_secret_is_not_repeated(worker: Worker, liar: Lying) -> None:
    echo = json.dumps({"errors": [{"code": SECRET, "message": SECRET}]}).encode()
    liar.routes["/v2/app/manifests/latest"] = guarded(reply(400, echo), BASIC, 'Basic realm="x"')
    with pytest.raises(Unavailable, match="400 Bad Request") as caught:
        await worker.resolve(f"{liar.address}/app", ANN)
    assert SECRET not in str(caught.value)
