"""The user that a container runs as: run_as_user, run_as_group and supplemental_groups of both security contexts.
Pure."""

from __future__ import annotations

from kernel.cri.generated import cri_pb2 as cri
from kernel.front.requests import fields


def run_as(
    field: str, context: cri.LinuxSandboxSecurityContext | cri.LinuxContainerSecurityContext, username: str
) -> tuple[int | None, int | None, tuple[int, ...]]:
    """Return run_as_user, run_as_group and supplemental_groups; None if the request does not set the field.

    `field` is the path of the context; `username` is LinuxContainerSecurityContext.run_as_username.
    """
    user = group = None
    if context.HasField("run_as_user"):
        user = fields.user_id(f"{field}.run_as_user", context.run_as_user.value)
    if context.HasField("run_as_group"):
        group = fields.user_id(f"{field}.run_as_group", context.run_as_group.value)
        if user is None and not username:
            fields.refuse(f"{field}.run_as_group", "is given without a user", "give run_as_user or run_as_username too")
    groups = tuple(context.supplemental_groups)
    if len(groups) > fields.MAX_GROUPS:
        fields.refuse(f"{field}.supplemental_groups", f"are more than {fields.MAX_GROUPS}")
    for index, value in enumerate(groups):
        fields.user_id(f"{field}.supplemental_groups[{index}]", value)
    return user, group, groups
