from __future__ import annotations

from tests.integration.runtime.conftest import Node


async def test_exit_code_and_log(node: Node) -> None:
    sandbox = await node.pod()
    container = await node.run(sandbox, "sh", "-c", "echo hello; echo oops >&2; exit 3")
    fact = await node.ended(container)
    assert (fact.state, fact.exit_code, fact.oom_killed) == ("exited", 3, False)
    assert 0 < fact.started_at <= fact.finished_at
    assert sorted(line.split(" ", 1)[1] for line in node.log(sandbox, container)) == ["stderr F oops", "stdout F hello"]
