"""A summary of the audit log as one page: HTML that needs nothing but itself.

Contract: names of programs, services and targets are chosen by whoever asked, and a program may be called ``<script>``.
Every text goes through ``_text``, which shows control characters as escapes and then escapes HTML. There is no script
in the page, and its Content-Security-Policy forbids any, and every load from anywhere: should a text ever get through,
it runs nothing and calls nobody.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from keychain_auth.audit.query import program_of
from keychain_auth.audit.reading import Line
from keychain_auth.audit.summary import Counts, Summary
from keychain_auth.cli.report import printable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_LONGEST = 300  # characters of one cell: a name has up to 1,024, and a path 4,096
_TALL = 100.0
_STYLE = """
:root { color-scheme: light dark; --ground: #fbfaf8; --card: #fff; --ink: #201e1b; --soft: #6d6960; --line: #e5e1d9;
  --granted: #2c7a58; --denied: #b5382d; --failed: #a8740b; --calm: #e6f1eb; --alarm: #f9e3e0; --unsure: #f6edd8 }
@media (prefers-color-scheme: dark) { :root { --ground: #171614; --card: #1f1e1b; --ink: #ece9e2; --soft: #9f9a8e;
  --line: #35322d; --granted: #63bd92; --denied: #f0877b; --failed: #dcb055; --calm: #1d3329; --alarm: #43221f;
  --unsure: #3b3018 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.5rem; margin: 0 }
h2 { font-size: 1.05rem; margin: 0 0 .75rem }
p { margin: .25rem 0 }
.soft, figcaption, th { color: var(--soft) }
.state { margin: 1.25rem 0; padding: .75rem 1rem; border-radius: .5rem; overflow-wrap: anywhere }
.calm { background: var(--calm) } .alarm { background: var(--alarm) } .unsure { background: var(--unsure) }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 0 0 1.25rem }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem }
.tile b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums }
.granted { color: var(--granted) } .denied { color: var(--denied) } .failed { color: var(--failed) }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.25rem;
  align-items: start }
section { margin: 0 0 1.25rem; min-width: 0 } .pair section { margin: 0 } .pair { margin: 0 0 1.25rem }
figure { margin: 0 } svg { display: block; width: 100%; height: 9rem; border-bottom: 1px solid var(--line) }
rect.granted { fill: var(--granted) } rect.denied { fill: var(--denied) } rect.failed { fill: var(--failed) }
rect.any { fill: transparent }
figcaption { display: flex; justify-content: space-between; gap: 1rem; font-size: .8rem; padding-top: .4rem }
.key { font-size: .85rem; margin: 0 0 .75rem } .key span { margin-right: 1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
th { text-align: left; font-weight: 500; white-space: nowrap }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
tr:last-child td { border-bottom: 0 }
td { overflow-wrap: anywhere } td.name { min-width: 9rem } td.when { white-space: nowrap }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.number:last-child, th.number:last-child, td:last-child { padding-right: 0 }
.part { display: flex; height: .4rem; border-radius: .2rem; overflow: hidden; margin-top: .25rem }
.part i { display: block } i.granted { background: var(--granted) } i.denied { background: var(--denied) }
i.failed { background: var(--failed) }
td.granted, td.denied, td.failed { min-width: 6.5rem }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere }
"""


class Chain(NamedTuple):
    """Whether the record is whole. ``state``: "calm", "alarm", or "unsure" if nobody could tell."""

    state: str
    says: str


def page(summary: Summary, chain: Chain, *, title: str, made: str, period: str) -> str:
    """The whole document. ``made``: when; ``period``: which part of the log was asked for."""
    parts = (
        f"<p class=soft>{_text(period)}. Made {_text(made)}.</p>",
        _state(chain.state, chain.says),
        *_warnings(summary),
        _tiles(summary),
        _timeline(summary),
        f"<div class=pair>{_ranking('Programs', summary.programs)}{_ranking('Services', summary.services)}</div>",
        f"<div class=pair>{_reasons(summary)}{_first_seen(summary)}</div>",
        _refusals(summary),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{_text(title)}</h1>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def _text(value: object) -> str:
    """Text of any origin, as it may stand between tags and in quoted attributes."""
    shown = printable(value)
    if len(shown) > _LONGEST:
        shown = f"{shown[:_LONGEST]}…"
    return html.escape(shown, quote=True)


def _state(kind: str, says: str) -> str:
    return f'<p class="state {kind}">{_text(says)}</p>'


def _warnings(summary: Summary) -> Iterable[str]:
    for line in summary.canaries:
        where = f"{program_of(line)} reached for a canary: {line.get('service')} {_names(line)}"
        yield _state("alarm", f"{line.get('timestamp')}: {where}")
    if summary.unreadable:
        yield _state("alarm", f"{summary.unreadable} lines are not lines of an audit log.")


def _tiles(summary: Summary) -> str:
    counts = summary.counts
    shown = (("granted", counts.granted), ("denied", counts.denied), ("failed", counts.failed))
    tiles = [f'<div class=tile><b class="{name}">{number:,}</b>{name}</div>' for name, number in shown]
    tiles.append(f"<div class=tile><b>{len(summary.first_seen):,}</b>programs seen</div>")
    tiles.append(f"<div class=tile><b>{summary.lines:,}</b>lines read</div>")
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _timeline(summary: Summary) -> str:
    if not summary.buckets:
        return "<section><h2>Timeline</h2><p class=soft>Nobody asked for anything in this time.</p></section>"
    highest = max(bucket.total for bucket in summary.buckets)
    bars = "".join(_bar(at, bucket, highest, summary) for at, bucket in enumerate(summary.buckets))
    end = summary.start + summary.step * len(summary.buckets)
    count = len(summary.buckets)
    picture = (
        f'<svg viewBox="0 0 {count} {_TALL:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="Requests over time, at most {highest} in one bar">{bars}</svg>'
    )
    key = "".join(f'<span class="{name}">■ {name}</span>' for name in ("granted", "denied", "failed"))
    caption = f"<span>{_moment(summary.start)}</span><span>highest bar: {highest:,}</span><span>{_moment(end)}</span>"
    return (
        f"<section><h2>Timeline, {_span(summary.step)} a bar</h2><p class=key>{key}</p>"
        f"<figure>{picture}<figcaption>{caption}</figcaption></figure></section>"
    )


def _bar(at: int, counts: Counts, highest: int, summary: Summary) -> str:
    """One bar: granted at the bottom, what was refused on top. A single refusal beside a thousand grants is seen."""
    bottom = _TALL
    drawn = []
    for name, number in (("granted", counts.granted), ("failed", counts.failed), ("denied", counts.denied)):
        if number:
            tall = max(_TALL * number / highest, 2.0)
            bottom = max(bottom - tall, 0.0)
            drawn.append(
                f'<rect class="{name}" x="{at + 0.08:.2f}" width="0.84" y="{bottom:.2f}" height="{tall:.2f}"/>'
            )
    when = _moment(summary.start + at * summary.step)
    title = f"{when}: {counts.granted} granted, {counts.denied} denied, {counts.failed} failed"
    return f'<g><title>{title}</title><rect class="any" x="{at}" width="1" y="0" height="100"/>{"".join(drawn)}</g>'


def _ranking(title: str, tallies: Sequence[tuple[str, Counts]]) -> str:
    most = max((counts.total for _, counts in tallies), default=1)
    rows = [
        (
            f"<td class=name><code>{_text(name)}</code>{_part(counts, most)}</td>",
            counts.granted,
            counts.denied,
            counts.failed,
        )
        for name, counts in tallies
    ]
    cells = [name + "".join(f'<td class="number">{number:,}</td>' for number in numbers) for name, *numbers in rows]
    return _table(title, ("", "#granted", "#denied", "#failed"), cells)


def _part(counts: Counts, most: int) -> str:
    """How much of the busiest one's it is, and of what."""
    shares = (("granted", counts.granted), ("failed", counts.failed), ("denied", counts.denied))
    drawn = "".join(
        f'<i class="{name}" style="width:{100 * number / most:.1f}%"></i>' for name, number in shares if number
    )
    return f"<span class=part>{drawn}</span>"


def _reasons(summary: Summary) -> str:
    cells = [
        f'<td class=name>{_text(reason)}</td><td class="number">{number:,}</td>' for reason, number in summary.reasons
    ]
    return _table("Why it was refused", ("reason", "#times"), cells)


def _first_seen(summary: Summary) -> str:
    cells = [
        f"<td class=when>{_text(_short(one.when))}</td>"
        f"<td class=name><code>{_text(one.path)}</code><br>"
        f"<code class=soft>{_text(one.hash[:23]) or 'no hash'}</code></td>"
        f'<td class="{_class(one.result)}">{_text(one.reason or one.result.lower())}</td>'
        for one in summary.first_seen
    ]
    return _table("Programs seen for the first time", ("when", "program", "first answer"), cells)


def _refusals(summary: Summary) -> str:
    cells = [
        f"<td class=when>{_text(_short(str(line.get('timestamp'))))}</td>"
        f"<td class=name><code>{_text(program_of(line) or '?')}</code></td>"
        f"<td>{_text(line.get('action'))}</td>"
        f"<td class=name>{_text(line.get('service') or '')} {_names_text(line)}</td>"
        f'<td class="{_class(line.get("result"))}">{_text(line.get("reason") or "")}{_times(line)}</td>'
        for line in summary.refusals
    ]
    return _table("Newest refusals", ("when", "program", "action", "of what", "reason"), cells)


def _table(title: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return f"<section><h2>{title}</h2><p class=soft>None.</p></section>"
    head = "".join(f"<th class=number>{name[1:]}</th>" if name[:1] == "#" else f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    return (
        f"<section><h2>{title}</h2><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _names(line: Line) -> str:
    targets = line.get("targets")
    return ", ".join(map(str, targets)) if isinstance(targets, list) else ""


def _names_text(line: Line) -> str:
    names = _names(line)
    return f"<code>{_text(names)}</code>" if names else ""


def _times(line: Line) -> str:
    return f", {line['count']} times" if isinstance(line.get("count"), int) else ""


def _class(result: object) -> str:
    return {"GRANTED": "granted", "DENIED": "denied"}.get(str(result), "failed")


def _short(stamp: str) -> str:
    return stamp[:19].replace("T", " ")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _span(seconds: int) -> str:
    for name, length in (("day", 24 * 3600), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = seconds // length
            return f"{number} {name}{'' if number == 1 else 's'}"
    return f"{seconds} seconds"
