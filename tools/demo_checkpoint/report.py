"""What an evaluation counted, and the table of it with the figures to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tools.demo_checkpoint.measure import Tally


@dataclass
class Report:
    """What was counted; see `rows` for the meaning."""

    text: Tally = field(default_factory=Tally)
    exemplar: Tally = field(default_factory=Tally)
    absent: list[bool] = field(default_factory=list)
    unknown: list[bool] = field(default_factory=list)
    removed: list[bool] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)
    click: list[float] = field(default_factory=list)
    corrected: list[float] = field(default_factory=list)
    box: list[float] = field(default_factory=list)
    milliseconds: float = float("nan")

    def merge(self, other: Report) -> None:
        """Add another report's counts."""
        self.text.merge(other.text)
        self.exemplar.merge(other.exemplar)
        for name in ("absent", "unknown", "removed", "kept", "click", "corrected", "box"):
            getattr(self, name).extend(getattr(other, name))

    def rows(self) -> list[tuple[str, float, float, int]]:
        """Return (what, figure, what it should reach, number of cases); shares are 0-1."""
        return [
            ("text: F1 at mask IoU 0.5", self.text.f1(), 0.95, self.text.truths),
            ("text: F1 at mask IoU 0.75", self.text.f1(0.75), 0.85, self.text.truths),
            ("text: precision at 0.5", self.text.precision, 0.0, self.text.founds),
            ("text: recall at 0.5", self.text.recall, 0.0, self.text.truths),
            ("text: mean IoU of matches", self.text.mean_iou, 0.87, len(self.text.ious)),
            ("absent concepts answered", _mean(self.absent), -0.03, len(self.absent)),
            ("unknown words answered", _mean(self.unknown), -0.03, len(self.unknown)),
            ("exemplar boxes: F1 at 0.5", self.exemplar.f1(), 0.90, self.exemplar.truths),
            ("negative exemplar: lookalikes removed", _mean(self.removed), 0.85, len(self.removed)),
            ("negative exemplar: others kept", _mean(self.kept), 0.90, len(self.kept)),
            ("one click: mean IoU", _mean(self.click), 0.82, len(self.click)),
            (
                "after three corrective clicks: mean IoU",
                _mean(self.corrected),
                0.87,
                len(self.corrected),
            ),
            ("a box: mean IoU", _mean(self.box), 0.87, len(self.box)),
            ("latency, whole model, one or two threads, ms", self.milliseconds, -60.0, 1),
        ]


def table(report: Report) -> str:
    """Return the report as Markdown."""
    lines = ["| | figure | to reach | cases | |", "|---|---|---|---|---|"]
    for what, figure, goal, cases in report.rows():
        if np.isnan(figure):
            continue
        holds = figure >= goal if goal >= 0 else figure <= -goal
        wanted = "–" if goal == 0 else f"{'≥' if goal > 0 else '≤'} {abs(goal):g}"
        mark = "" if goal == 0 else ("holds" if holds else "MISSED")
        lines.append(f"| {what} | {figure:.3f} | {wanted} | {cases} | {mark} |")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
