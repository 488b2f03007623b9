"""What a part of the benchmark hands over, and how it is shown: a table for people, a plot, JSON for programs.

A row is one line of the goals: a figure, what it is held against, and whether it holds. Figures of several rounds are a
median with the least and the most; a ratio is taken within each round, because both sides of it then had the same
neighbours.
"""

from __future__ import annotations

import html
import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field


class Skip(Exception):
    """A part cannot be measured here; the text says why, and what would be needed."""


@dataclass(frozen=True)
class Row:
    """One measured line. ``goal`` is None for what is only shown; ``at_least`` turns the comparison around.

    ``beside`` says what the figure was compared with, in words and numbers.
    """

    what: str
    values: Sequence[float]
    unit: str = ""
    goal: float | None = None
    at_least: bool = False
    beside: str = ""

    @property
    def figure(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal

    @property
    def strain(self) -> float:
        """How much of the goal is used: 1 is just met, 2 is twice too much."""
        assert self.goal
        return self.goal / self.figure if self.at_least else self.figure / self.goal


@dataclass
class Report:
    """Everything of one run."""

    about: Mapping[str, object]
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def print(self) -> None:
        """The table."""
        print("keychain-auth, measured beside doing without it")
        print("  " + ", ".join(f"{name} {value}" for name, value in self.about.items()) + "\n")
        print(f"  {'what':<62}{'median':>11}  {'least to most':<18}{'goal':>8}  {'':<9}beside")
        for row in self.rows:
            goal = "" if row.goal is None else f"{'>=' if row.at_least else '<='} {number(row.goal)}"
            verdict = {None: "", True: "met", False: "NOT MET"}[row.met]
            middle = f"{number(row.figure)} {row.unit}"
            spread = f"{number(min(row.values))} to {number(max(row.values))}" if len(row.values) > 1 else ""
            print(f"  {row.what:<62}{middle:>11}  {spread:<18}{goal:>8}  {verdict:<9}{row.beside}")
        for reason in self.skipped:
            print(f"  skipped: {reason}")
        judged = [row for row in self.rows if row.goal is not None]
        print(f"\n  {sum(bool(row.met) for row in judged)} of {len(judged)} goals met")

    def write(self, folder: str) -> None:
        """``bench.json`` and ``bench.svg`` into ``folder``."""
        os.makedirs(folder, exist_ok=True)
        plain = [{**asdict(row), "figure": row.figure, "met": row.met} for row in self.rows]
        with open(os.path.join(folder, "bench.json"), "w", encoding="utf-8") as file:
            json.dump({"about": dict(self.about), "rows": plain, "skipped": self.skipped}, file, indent=2)
        with open(os.path.join(folder, "bench.svg"), "w", encoding="utf-8") as file:
            file.write(plot([row for row in self.rows if row.goal is not None]))


def number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    if value and abs(value) < 100:
        return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
    return f"{value:,.0f}"


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


_WIDTH, _LINE, _LABEL, _MOST = 1100, 22, 520, 8.0


def plot(rows: Sequence[Row]) -> str:
    """Bars on a logarithmic scale: how much of each goal is used. The line is the goal; beyond it is too much."""
    span = _WIDTH - _LABEL - 90
    least = 1 / _MOST

    def across(strain: float) -> float:
        held = min(max(strain, least), _MOST)
        return _LABEL + span * math.log(held / least) / math.log(_MOST / least)

    height = _LINE * (len(rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}">',
        '<rect width="100%" height="100%" fill="white"/><g font-family="sans-serif" font-size="13">',
    ]
    for at, row in enumerate(rows):
        top = _LINE * at + 6
        end = across(row.strain)
        colour = "#3a7" if row.met else "#c43"
        parts.append(
            f'<text x="{_LABEL - 8}" y="{top + 13}" text-anchor="end">{html.escape(row.what)}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{end - _LABEL:.1f}" height="{_LINE - 6}" fill="{colour}"/>'
            f'<text x="{end + 5:.1f}" y="{top + 13}">{number(row.figure)} {html.escape(row.unit)}</text>'
        )
    goal = across(1.0)
    parts.append(f'<line x1="{goal:.1f}" x2="{goal:.1f}" y1="0" y2="{_LINE * len(rows) + 4}" stroke="black"/>')
    parts.append(f'<text x="{goal:.1f}" y="{height - 18}" text-anchor="middle">the goal</text></g></svg>\n')
    return "\n".join(parts)
