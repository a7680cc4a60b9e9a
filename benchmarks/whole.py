"""Whole predictions, file to ZIP, by the plain pipeline and by the service behind `predict()`.

The same function measures the demo checkpoint, full size on the CPU and full size on a GPU.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import plain
from benchmarks.measure import Spread, timed
from benchmarks.table import Row
from sam3_image.request import Request
from sam3_image.serving import Service
from sam3_image.settings import Settings

CONCEPTS = tuple(
    f"{colour} {shape}"
    for shape in ("circle", "square", "star", "triangle")
    for colour in ("red", "blue", "green", "yellow")
)


@dataclass(frozen=True)
class Setup:
    """One checkpoint on one device, for both sides.

    threshold: 1.0 finds nothing, for random weights, whose instances mean nothing.
    dtype: of ours, as SAM3_DTYPE names it; "" for the default.
    """

    folder: Path
    device: torch.device
    threshold: float = 0.5
    dtype: str = ""

    def service(self) -> Service:
        """Ours, loaded; it takes local files."""
        environment = {
            "SAM3_WEIGHTS": str(self.folder),
            "SAM3_DEVICE": str(self.device),
            "SAM3_DTYPE": self.dtype,
        }
        with quiet():
            return Service(Settings.from_environment(environment))

    def plain(self) -> plain.Plain:
        """The plain model, loaded; on a GPU in bfloat16, as ours is."""
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        return plain.load(self.folder, self.device, dtype)


@contextlib.contextmanager
def quiet() -> Any:
    """Keep the service's log out of the table."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class Whole:
    """Both sides on the same pictures, one call after the other."""

    def __init__(self, setup: Setup, scratch: Path) -> None:
        """Load both."""
        self.setup = setup
        self.scratch = scratch
        self.service = setup.service()
        self.theirs = setup.plain()

    def faster_rows(self, section: str, photo: Path, dtypes: Sequence[str]) -> list[Row]:
        """Time ours in other dtypes: one concept against plain, all against ours as it is."""
        found = []
        every = self.ours_anew(photo, *CONCEPTS)
        for dtype in dtypes:
            other = copy.copy(self)
            other.setup = replace(self.setup, dtype=dtype)
            other.service = other.setup.service()
            one = Spread((self.plain(photo, CONCEPTS[0]),))
            case = f"{dtype}: first request, against plain in float32"
            found.append(Row(section, case, one, Spread((other.ours_anew(photo, CONCEPTS[0]),))))
            all_of_it = Spread((other.ours_anew(photo, *CONCEPTS),))
            case = f"{dtype}: {len(CONCEPTS)} concepts, against ours in float32"
            found.append(Row(section, case, Spread((every,)), all_of_it))
        return found

    def ours_anew(self, photo: Path, *concepts: str) -> float:
        """As `ours`, with nothing left of earlier requests."""
        self.service_forgets()
        return self.ours(photo, *concepts)

    def ours(self, photo: Path, *concepts: str) -> float:
        """Seconds of one request with those concepts."""
        request = Request.from_inputs(prompts=list(concepts), threshold=self.setup.threshold)
        with quiet():
            return timed(lambda: self.service.run(photo, request), self.setup.device)

    def plain(self, photo: Path, concept: str) -> float:
        """Seconds of one call, which takes one concept."""
        target = self.scratch / "masks.zip"
        return timed(
            lambda: plain.predict(
                self.theirs, photo, target, concept, threshold=self.setup.threshold
            ),
            self.setup.device,
        )

    def rows(
        self, section: str, photos: Sequence[Path], many: Sequence[int], warm: bool = True
    ) -> list[Row]:
        """One round per photo; `many`: how many concepts to ask for in one request.

        warm: run both once before, on the last photo, which is then left out.
        """
        if warm:
            *photos, first = photos
            self.ours(first, CONCEPTS[0])
            self.plain(first, CONCEPTS[0])
        most = max(1, *many)
        first_call, repeated, single = [], [], []
        together: dict[int, list[float]] = {count: [] for count in many}
        apart: dict[int, list[float]] = {count: [] for count in many}
        for photo in photos:
            calls = [self.plain(photo, CONCEPTS[0])]
            first_call.append(self.ours(photo, CONCEPTS[0]))
            repeated.append(self.ours(photo, CONCEPTS[1]))
            calls += [self.plain(photo, concept) for concept in CONCEPTS[1:most]]
            single += calls
            for count in many:
                together[count].append(self.ours_anew(photo, *CONCEPTS[:count]))
                apart[count].append(sum(calls[:count]))
        plain_once = Spread(tuple(single))
        return [
            Row(section, "first request", plain_once, Spread(tuple(first_call))),
            Row(section, "same picture, another concept", plain_once, Spread(tuple(repeated))),
            *(
                Row(
                    section,
                    f"{count} concepts against {count} calls",
                    Spread(tuple(apart[count])),
                    Spread(tuple(together[count])),
                )
                for count in many
            ),
        ]

    def service_forgets(self) -> None:
        """Empty our caches, so that the next request pays for everything."""
        self.service._segmenter.forget()
