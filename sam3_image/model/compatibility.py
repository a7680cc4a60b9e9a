"""Which implementation's answers are given: Meta's own, or transformers' where it differs.

With the same weights transformers 5.23 differs from Meta's SAM 3 (github.com/facebookresearch/sam3)
in four places. Meta's way is what the weights were trained with, and the default; transformers' is
for comparisons with it. This module alone knows the modes; what a correction does is told where it
is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam3_image.errors import UserError, shown
from sam3_image.settings import Settings


@dataclass(frozen=True)
class Compatibility:
    """Whose SAM 3 to answer as, and what that means.

    name: as SAM3_REFERENCE and `load()` have it. title: for the log.
    cls_token: the geometry encoder's CLS token is part of every prompt; else only where boxes are.
    no_memory: points and boxes of a pick read features with the no-memory embedding added.
    clean_text: texts are cleaned up before the tokenizer.
    layer_norm_eps: of the vision encoder; None for what the checkpoint's configuration says.
    """

    name: str
    title: str
    cls_token: bool
    no_memory: bool
    clean_text: bool
    layer_norm_eps: float | None

    @classmethod
    def of(cls, settings: Settings) -> Compatibility:
        """As SAM3_REFERENCE says; raises UserError for a name that is none."""
        name = settings.compatibility or DEFAULT_COMPATIBILITY.name
        for known in (META, TRANSFORMERS):
            if name == known.name:
                return known
        raise UserError(
            f"SAM3_REFERENCE is {shown(name)}; allowed are {META.name} (answer as Meta's own "
            f"SAM 3) and {TRANSFORMERS.name} (as transformers computes it). Unset it for "
            f"{DEFAULT_COMPATIBILITY.name}."
        )

    def __str__(self) -> str:
        return self.title


META = Compatibility(
    name="meta",
    title="Meta's SAM 3",
    cls_token=True,
    no_memory=True,
    clean_text=True,
    layer_norm_eps=1e-5,
)
TRANSFORMERS = Compatibility(
    name="transformers",
    title="transformers' SAM 3",
    cls_token=False,
    no_memory=False,
    clean_text=False,
    layer_norm_eps=None,
)
DEFAULT_COMPATIBILITY = META
