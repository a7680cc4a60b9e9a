"""How `refine` changes masks of touching, thin, nested and specked objects; run by hand.

.venv/bin/python -m tools.refine_figures FIRST LAST

FIRST and LAST are the seeds of the scenes, four scenes each; the demo checkpoint answers.
tests/unit/test_refine.py holds the same on a few of them.
"""

from __future__ import annotations

import sys

import numpy as np

import sam3_image
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.refine_scenes import KINDS, changes


def main(first: int, last: int) -> None:
    """Print one line for each kind over all seeds, and one for each mask that got worse."""
    sam = sam3_image.load(REPOSITORY / "weights" / "demo", device="cpu")
    for kind in KINDS:
        found = [one for seed in range(first, last + 1) for one in changes(sam, kind, seed)]
        gains = np.array([one.after - one.before for one in found])
        print(
            f"{kind}: {len(found)} masks, mean IoU {np.mean([one.before for one in found]):.3f} → "
            f"{np.mean([one.after for one in found]):.3f}, worst change {gains.min():+.3f}, "
            f"{np.count_nonzero(gains < -0.02)} worse by more than 0.02",
            flush=True,
        )
        for one in found:
            if one.after < one.before - 0.02:
                print(f"  {one.what}: {one.before:.3f} → {one.after:.3f}")


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:3]))
