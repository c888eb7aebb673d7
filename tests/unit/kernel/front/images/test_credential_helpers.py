"""Helpers are asked once for a pull, in turn, and only where they are configured."""

from __future__ import annotations

import pytest
from msgspec import structs

from kernel.config.sections import Config, ImageSection
from kernel.contracts import image, runtime
from kernel.contracts.definition import Message
from kernel.contracts.oci import Auth
from kernel.cri.generated import cri_pb2
from kernel.errors import Corrupt
from kernel.front.images import pulls
from tests.harness.fakes import image_workers as fakes

BUSYBOX = "docker.io/library/busybox:latest"
ANN = Auth(username="ann", password="secret")


class Workers(fakes.Workers):
    """With helpers: what the image worker wants, and what each has."""

    wanted: dict[str, tuple[str, ...]] = {}

    async def call(self, method, request: Message, **how) -> Message:
        self.calls.append((method.name, request))
        if method is image.WANTED:
            return image.Wanted(helpers=self.wanted)
        if isinstance(request, runtime.HelperRequest):
            return runtime.Helped(auth=ANN if request.helper == "has" else Auth())
        self.calls.pop()
        return await super().call(method, request, **how)


@pytest.mark.parametrize("folder", ["", "/usr/libexec/helpers"])
async def test_helpers_are_asked_where_they_are_configured(folder: str) -> None:
    workers = Workers()
    workers.wanted = {"one.example": ("none", "has", "more"), "two.example": ("none",)}
    front = fakes.make_front(workers)
    front.config = Config(image=ImageSection(registries_conf="/none", credential_helper_dir=folder))
    workers.registry.push(BUSYBOX, "a")
    request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image="busybox"))
    await pulls.pull_image(front, request, fakes.a_call())
    asked = [(one.helper, one.server) for _, one in workers.calls if isinstance(one, runtime.HelperRequest)]
    expected = [("none", "one.example"), ("has", "one.example"), ("none", "two.example")]
    assert asked == (expected if folder else [])
    for _, one in workers.calls:
        if isinstance(one, image.FetchRequest) or (isinstance(one, image.ResolveRequest) and one.helped):
            assert one.helped == ({"one.example": ANN} if folder else {})
    workers.wanted = {f"{number}.example": ("none",) for number in range(100)}
    if folder:
        with pytest.raises(Corrupt, match="more than"):
            await pulls.pull_image(front, request, fakes.a_call())
    await front.tasks.close()


def test_what_a_helper_gave_is_not_shown() -> None:
    assert "secret" not in repr(structs.replace(runtime.Helped(auth=ANN)))
