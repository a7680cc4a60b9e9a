"""What the model answered about an object, for the next click on it.

Meta's demo starts each click from the logits of the answer before it. A client sends all points of
an object again, so the answer to the longest part of them that was asked about is where it starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam3_image.model import Pick, Target
from sam3_image.request import Request
from sam3_image.web.store import BoundedStore

if TYPE_CHECKING:
    from sam3_image.instances import Instances

LOGITS = "logits"  # the store of them


@dataclass(frozen=True)
class PreviousLogits:
    """The logits of answers about one image, within the bounds of the store.

    image_id: of the image, in whatever way the client's routes name it.
    """

    store: BoundedStore[NDArray[np.float32]]
    image_id: str

    def applied(self, request: Request) -> Request:
        """The request with the logits of an earlier answer as its mask, if one is known.

        They take the place of the mask from which the earlier answer began.
        """
        target = _target(request)
        if target is None:
            return request
        for fewer in _shorter(target):
            logits = self.store.find(self._key(request, fewer))
            if logits is not None:
                prompts = request.prompts.model_copy(update={"mask_image": logits})
                return replace(request, prompts=prompts)
        return request

    def keep(self, request: Request, found: Instances) -> None:
        """Keep the logits of the best answer to a request, as it was before `applied`."""
        target, logits = _target(request), found.detections.logits
        if target is not None and logits is not None and len(logits):
            self.store.put(self._key(request, target), logits[0], logits[0].nbytes)

    def _key(self, request: Request, target: Target) -> str:
        prompts = request.prompts
        mask = prompts.mask_image if isinstance(prompts.mask_image, dict) else None
        what = [self.image_id, prompts.input_size_percent, mask]
        what += [target.points, target.labels, target.box]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _target(request: Request) -> Target | None:
    """The one object that a request picks; None for several and for other tasks."""
    task = request.prompts.asked
    return task.targets[0] if isinstance(task, Pick) and len(task.targets) == 1 else None


def _shorter(target: Target) -> Iterator[Target]:
    """The prompts from which a client may have come to this one by one click, or by more."""
    if target.box and target.points:
        yield replace(target, box=None)
    for count in reversed(range(len(target.points))):
        part = replace(target, points=target.points[:count], labels=target.labels[:count])
        if count or target.box:
            yield part
        if target.box and count:
            yield replace(part, box=None)
