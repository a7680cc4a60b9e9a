"""Which implementation's answers are given: Meta's own, or those of transformers.

With the same weights transformers 5.23 differs from Meta's SAM 3 (github.com/facebookresearch/sam3)
in several places. Meta's behaviour is what the weights were trained with, and the default;
transformers' is for comparisons. Only this module knows the modes; each correction is described
where it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam3_image.errors import UserError, shown
from sam3_image.settings import Settings


@dataclass(frozen=True)
class Compatibility:
    """Which SAM 3 to answer as, and what that implies.

    name: value of SAM3_REFERENCE and of `load(reference=…)`. title: name in the log.
    cls_token: the geometry encoder's CLS token is part of every prompt, not only of those with
        boxes.
    no_memory: the no-memory embedding is added to the features that a pick reads.
    clean_text: texts are cleaned up and lower-cased before they are tokenized.
    mask_token_0: the detector does not read the token with the id 0.
    upsample_logits: masks of *find* are upsampled as logits, not as probabilities.
    fill_holes: small holes in the mask of a pick are filled.
    layer_norm_eps: epsilon of the vision encoder; None for the value in the checkpoint's
        configuration.
    """

    name: str
    title: str
    cls_token: bool
    no_memory: bool
    clean_text: bool
    mask_token_0: bool
    upsample_logits: bool
    fill_holes: bool
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
    mask_token_0=True,
    upsample_logits=True,
    fill_holes=True,
    layer_norm_eps=1e-5,
)
TRANSFORMERS = Compatibility(
    name="transformers",
    title="transformers' SAM 3",
    cls_token=False,
    no_memory=False,
    clean_text=False,
    mask_token_0=False,
    upsample_logits=False,
    fill_holes=False,
    layer_norm_eps=None,
)
DEFAULT_COMPATIBILITY = META
