"""Rows of results → Markdown for people and JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread


@dataclass(frozen=True)
class Row:
    """One line: the same work by the plain pipeline and by ours.

    section: rows of one section stand together. unit: "s", "MB" or "/s" (where more is better).
    plain, ours: None where a side was not run; `note` then says why.
    """

    section: str
    case: str
    plain: Spread | None
    ours: Spread | None
    unit: str = "s"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is, by the medians."""
        if self.plain is None or self.ours is None:
            return None
        ratio = self.plain.median / max(self.ours.median, 1e-9)
        return 1 / ratio if self.unit == "/s" else ratio

    def record(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "section": self.section,
            "case": self.case,
            "unit": self.unit,
            "plain": self.plain and self.plain.record(),
            "ours": self.ours and self.ours.record(),
            "ratio": self.ratio,
            "note": self.note,
        }


def markdown(rows: Sequence[Row], machine: dict[str, Any], command: str) -> str:
    """Return the whole report."""
    parts = [f"`{command}` on " + ", ".join(f"{key} {value}" for key, value in machine.items())]
    for section, group in groupby(rows, key=lambda row: row.section):
        lines = [_line(row) for row in group]
        head = ["| case | plain | ours | ratio | |", "| --- | --- | --- | --- | --- |"]
        parts.append("\n".join([f"### {section}", "", *head, *lines]))
    return "\n\n".join(parts) + "\n"


def save(rows: Sequence[Row], machine: dict[str, Any], command: str, folder: Path) -> str:
    """Write `bench.json` and `bench.md` into `folder`; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(rows, machine, command)
    document = {"command": command, "machine": machine, "rows": [row.record() for row in rows]}
    (folder / "bench.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (folder / "bench.md").write_text(text)
    return text


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"**{row.ratio:.1f}×**"
    cells = (row.case, _cell(row.plain, row.unit), _cell(row.ours, row.unit), ratio, row.note)
    return "| " + " | ".join(cells) + " |"


def _cell(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "–"
    text = _number(spread.median, unit)
    if len(spread.values) > 1:
        text += f" ({_number(min(spread.values), '')}–{_number(max(spread.values), '')})"
    return text


def _number(value: float, unit: str) -> str:
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{shown} {unit}".rstrip()
