"""Images by id, beginning of an id, tag and digest. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kernel.contracts.records import Image
from kernel.errors import InvalidInput
from kernel.formats import reference
from kernel.ids import ImageId

_IMAGE_ID = re.compile(r"(?:sha256:)?([0-9a-f]{3,64})", re.ASCII)
_HEX_DIGITS = 64


class ImageIndex:
    """The images that the records have."""

    def __init__(self) -> None:
        self.by_id: dict[ImageId, Image] = {}
        self._by_name: dict[str, ImageId] = {}
        """Ids by tag and by digest, both as whole references."""
        self.expand: Callable[[str], Sequence[reference.Reference]] = lambda text: (reference.parse(text),)
        """Returns the references that a name may stand for; raises InvalidInput if it is malformed."""

    def put(self, image: Image) -> None:
        """Add an image, or replace its record; a tag that another image had becomes this one's."""
        self._forget_names(image.id)
        self.by_id[image.id] = image
        self._by_name.update(dict.fromkeys((*image.tags, *image.digests), image.id))

    def remove(self, image_id: ImageId) -> None:
        """Remove an image; nothing happens if it is not there."""
        self._forget_names(image_id)
        self.by_id.pop(image_id, None)

    def find(self, name: str) -> Image | None:
        """Return the image with this id, beginning of an id, tag or digest, in short or full form.

        None if there is none; InvalidInput if `name` is malformed, or the beginning of several ids.
        """
        if name in self._by_name:
            return self.by_id[self._by_name[name]]
        match = _IMAGE_ID.fullmatch(name)
        digits = match.group(1) if match else ""
        if name.startswith("sha256:"):
            if not digits:
                raise InvalidInput(f"image {name!r} is not sha256: and 64 lower-case hex digits")
        elif len(digits) != _HEX_DIGITS:
            for one in self.expand(name):
                spelling = f"{one.name}@{one.digest}" if one.digest else str(one)
                if spelling in self._by_name:
                    return self.by_id[self._by_name[spelling]]
        return self._by_beginning(name, digits) if digits else None

    def _by_beginning(self, name: str, digits: str) -> Image | None:
        matches = [image for image in self.by_id.values() if image.id.startswith(f"sha256:{digits}")]
        if len(matches) > 1:
            raise InvalidInput(f"image.image: {name!r} is the beginning of more than one image's id")
        return matches[0] if matches else None

    def _forget_names(self, image_id: ImageId) -> None:
        before = self.by_id.get(image_id)
        for name in (*before.tags, *before.digests) if before else ():
            if self._by_name.get(name) == image_id:
                del self._by_name[name]
