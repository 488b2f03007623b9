"""The documents as a website: plain HTML from plain Markdown, without a network, a script or a font.

    python -m release.website OUT

Contract: every page is self-contained (its style is in it, nothing is loaded), every link leads to a page or file of
the site, and the same sources give the same bytes. A link that leads nowhere is an error. The addresses are those of
the files: ``docs/protocol.md`` is ``docs/protocol.html``, so links work in both forms.
"""

from __future__ import annotations

import glob
import html
import itertools
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from release import api

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
API = "docs/api.md"  # made from docstrings; there is no such file
_NAVIGATION = (
    ("Start", ("README.md", "docs/quickstart.md", "docs/concepts.md", "docs/coming-from.md")),
    ("Use", ("docs/run.md", "docs/integrations.md", "docs/integrations/*.md", "docs/agents.md", "clients/README.md",
             "docs/keychains.md", "docs/platforms.md")),
    ("Run", ("docs/operations.md", "docs/fleet.md", "SECURITY.md", "docs/threat-model.md", "docs/reliability.md",
             "docs/performance.md")),
    ("Look up", (API, "docs/protocol.md", "docs/README.md")),
    ("Take part", ("docs/architecture.md", "CONTRIBUTING.md", "docs/*.md", "docs/adr/*.md", "changes/README.md",
                   "CHANGELOG.md")),
)  # fmt: skip
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0; display: grid; grid-template-columns: 16rem minmax(0, 50rem); }
nav { border-right: 1px solid var(--line); padding: 1rem; font-size: 0.9rem; }
nav h2 { font-size: 0.8rem; margin: 1rem 0 0.2rem; text-transform: uppercase; letter-spacing: 0.05em; opacity: 0.7; }
nav ul { list-style: none; margin: 0; padding: 0; }
main { padding: 1rem 2rem 4rem; overflow-wrap: break-word; }
pre { background: var(--soft); padding: 0.8rem; white-space: pre-wrap; border-radius: 4px; }
code { font-size: 0.92em; background: var(--soft); padding: 0 0.2em; border-radius: 3px; }
pre code { background: none; padding: 0; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid var(--line); padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
[aria-current] { font-weight: bold; }
@media (max-width: 50rem) { body { display: block; } nav { border: 0; border-bottom: 1px solid var(--line); } }
"""


class Dead(Exception):
    """A link that leads nowhere; the text says where it stands."""


class Page(NamedTuple):
    """``source`` is its path in the repository. ``anchors`` are what a link may point at."""

    source: str
    title: str
    tokens: list[Token]
    anchors: frozenset[str]


def build(out: str) -> list[str]:
    """Write the site into ``out``; the paths of what was written. Raises Dead."""
    pages = {page.source: page for page in read_pages()}
    files: dict[str, bytes] = {}
    for page in pages.values():
        files[address(page.source)] = render(page, pages, files).encode()
    for path, content in files.items():
        target = os.path.join(out, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)
    return sorted(files)


def sources() -> list[tuple[str, list[str]]]:
    """The documents in the order of the navigation, by its headings; each once."""
    seen: set[str] = set()
    found = []
    for heading, patterns in _NAVIGATION:
        names = []
        for pattern in patterns:
            there = [os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, pattern))]
            names += [name for name in ([API] if pattern == API else sorted(there)) if name not in seen]
            seen.update(names)
        found.append((heading, names))
    return found


def read_pages() -> Iterator[Page]:
    """All pages, parsed."""
    for _, names in sources():
        for name in names:
            text = api.markdown() if name == API else _read(name)
            tokens = parser().parse(text)
            anchors = _give_anchors(tokens)
            yield Page(name, _title(tokens) or name, tokens, anchors)


def parser() -> MarkdownIt:
    """CommonMark with tables; raw HTML is shown as text."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def address(source: str) -> str:
    """Where the page of a document is: a README is the index of its folder."""
    folder, name = posixpath.split(source)
    return posixpath.join(folder, "index.html" if name == "README.md" else f"{name.removesuffix('.md')}.html")


def anchor(heading: str) -> str:
    """The name of a heading in links, as hosts of repositories make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render(page: Page, pages: dict[str, Page], files: dict[str, bytes]) -> str:
    """The page as HTML; files of the repository that it links to are added to ``files``. Raises Dead."""
    for token in page.tokens:
        for child in token.children or ():
            if child.type == "link_open":
                child.attrs["href"] = _target(page, str(child.attrs["href"]), pages, files)
            elif child.type == "image":
                raise Dead(f"{page.source}: an image, {child.attrs['src']}")
    body = parser().renderer.render(page.tokens, parser().options, {})
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{html.escape(page.title)} - keychain-auth</title>
<style>{_STYLE}</style>
</head>
<body>
<nav>
{_navigation(page, pages)}
</nav>
<main>
{body}</main>
</body>
</html>
"""


def _target(page: Page, link: str, pages: dict[str, Page], files: dict[str, bytes]) -> str:
    """Where a link of ``page`` leads on the site. Raises Dead."""
    if re.match(r"[a-z]+:", link):
        return link
    path, _, fragment = link.partition("#")
    source = posixpath.normpath(posixpath.join(posixpath.dirname(page.source), path)) if path else page.source
    if source in pages:
        if fragment and fragment not in pages[source].anchors:
            raise Dead(f"{page.source}: {link}: no such heading")
        where = _relative(page, address(source))
        return f"{where}#{fragment}" if fragment else where
    full = os.path.join(ROOT, source)
    if source.startswith("..") or not os.path.isfile(full):
        raise Dead(f"{page.source}: {link}: no such document or file")
    with open(full, "rb") as file:  # an example, a vector: as it is, beside the pages
        files[source] = file.read()
    return _relative(page, source)


def _relative(page: Page, path: str) -> str:
    return posixpath.relpath(path, posixpath.dirname(address(page.source)) or ".")


def _navigation(page: Page, pages: dict[str, Page]) -> str:
    parts = []
    for heading, names in sources():
        parts.append(f"<h2>{heading}</h2>\n<ul>")
        for name in names:
            current = ' aria-current="page"' if name == page.source else ""
            title = html.escape(pages[name].title)
            parts.append(f'<li><a href="{_relative(page, address(name))}"{current}>{title}</a></li>')
        parts.append("</ul>")
    return "\n".join(parts)


def _give_anchors(tokens: list[Token]) -> frozenset[str]:
    """Each heading gets its id. Two of one name: the second gets a number, as hosts of repositories do it."""
    given: dict[str, int] = {}
    ids = []
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open":
            name = anchor("".join(child.content for child in inline.children or ()))
            number = given.get(name, 0)
            given[name] = number + 1
            ids.append(f"{name}-{number}" if number else name)
            token.attrs["id"] = ids[-1]
    return frozenset(ids)


def _title(tokens: list[Token]) -> str:
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open":
            return "".join(child.content for child in inline.children or ())
    return ""


def _read(name: str) -> str:
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def main(words: list[str]) -> int:
    """See above."""
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        written = build(words[0])
    except Dead as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{len(written)} files; begin with {os.path.join(words[0], 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
