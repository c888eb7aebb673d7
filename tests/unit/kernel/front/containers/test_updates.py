from __future__ import annotations

from kernel.contracts.runtime import Resources
from kernel.front.containers import updates
from kernel.front.requests.resources import resources_of


def test_limits_are_shown_as_they_were_asked_for() -> None:
    held = Resources(
        cpu_period=100_000, cpu_quota=-1, cpu_shares=512, memory_limit_in_bytes=1 << 26, oom_score_adj=-5,
        cpuset_cpus="0-1", cpuset_mems="0", hugepage_limits={"2MB": 4 << 20}, unified={"memory.high": "1"},
        memory_swap_limit_in_bytes=1 << 27,
    )  # fmt: skip
    assert resources_of("linux", updates.to_cri(held)) == held
