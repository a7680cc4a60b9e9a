"""Pictures that were sent once and are known by their content from then on."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from sam3_image.decode import Image
from sam3_image.errors import shown
from sam3_image.web.answers import PictureGone


@dataclass(frozen=True)
class Picture:
    """A decoded picture and the id that its file's content has."""

    id: str
    image: Image


class Pictures:
    """Decoded pictures by id, bounded in count and bytes: what was used longest ago goes first.

    Used from the event loop only, so nothing here takes a lock.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._used = 0
        self._kept: OrderedDict[str, Picture] = OrderedDict()

    @staticmethod
    def id_of(data: bytes) -> str:
        """Return the id of a file with this content."""
        return hashlib.sha256(data).hexdigest()[:32]

    def known(self, picture_id: str) -> Picture | None:
        """Return the picture, which then was used last, or None."""
        picture = self._kept.get(picture_id)
        if picture is not None:
            self._kept.move_to_end(picture_id)
        return picture

    def get(self, picture_id: object) -> Picture:
        """Return the picture; raises PictureGone, which tells a client to send it again."""
        picture = self.known(picture_id) if isinstance(picture_id, str) else None
        if picture is None:
            raise PictureGone(
                f"The picture {shown(picture_id)} is not known here (any more): send it again."
            )
        return picture

    def keep(self, picture: Picture) -> None:
        """Remember it, at the cost of older ones; the newest stays even where it is too large."""
        if self.known(picture.id) is not None:
            return
        self._kept[picture.id] = picture
        self._used += picture.image.pixels.nbytes
        while len(self._kept) > self._max_count or (
            self._used > self._max_bytes and len(self._kept) > 1
        ):
            _, oldest = self._kept.popitem(last=False)
            self._used -= oldest.image.pixels.nbytes
