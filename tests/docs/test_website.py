"""The website: complete, self-contained, without a dead link, and the same each time."""

from __future__ import annotations

import html.parser
import os
import pathlib
import posixpath
import re

import pytest

import keychain_auth
from docs.test_docs import DOCUMENTS, anchors
from release import api, website

PAGE = "docs/concepts.md"
_VOID = {"meta", "br", "hr"}


class Reader(html.parser.HTMLParser):
    """Collects links, ids and whatever would be loaded; raises AssertionError where tags do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "a":
            self.links.append(named["href"] or "")
        if named.get("id"):
            self.ids.add(named["id"] or "")
        if tag in ("script", "img", "iframe", "link", "object", "embed") or "src" in named or "style" in named:
            self.loaded.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Path to text of every page."""
    out = tmp_path_factory.mktemp("site")
    website.build(str(out))
    paths = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_text("utf-8") for path in paths}


def test_every_document_has_its_page_and_every_page_is_in_the_list_of_each(site: dict[str, str]) -> None:
    wanted = {website.address(document) for document in (*DOCUMENTS, website.API)}
    assert wanted <= set(site)
    linked = {posixpath.normpath(posixpath.join("docs", link)) for link in Reader(site["docs/concepts.html"]).links}
    assert wanted <= linked


def test_no_page_loads_anything_and_every_link_leads_somewhere(site: dict[str, str]) -> None:
    pages = {path: Reader(text) for path, text in site.items() if path.endswith(".html")}
    internal = 0
    for path, page in pages.items():
        assert page.loaded == [], path
        assert "default-src 'none'" in site[path]
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            internal += 1
            target, _, fragment = link.partition("#")
            where = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) if target else path
            assert where in site, f"{path}: {link}"
            if fragment:
                assert fragment in pages[where].ids, f"{path}: {link}"
    assert internal > 1000


def test_headings_are_called_as_in_the_files(site: dict[str, str]) -> None:
    """A link that works in the repository works on the site."""
    for document in DOCUMENTS:
        assert anchors(document) <= Reader(site[website.address(document)]).ids, document


def test_the_same_sources_give_the_same_site(site: dict[str, str], tmp_path: pathlib.Path) -> None:
    website.build(str(tmp_path))
    for path, text in site.items():
        assert (tmp_path / path).read_text("utf-8") == text, path


def test_the_reference_has_everything_that_the_package_exports() -> None:
    text = api.markdown()
    for name in keychain_auth.__all__:
        assert re.search(rf"^###? {name}$", text, re.MULTILINE), name
        assert (getattr(keychain_auth, name).__doc__ or "").strip(), name
    assert "### KeychainAuthClient.write" in text
    assert "``" not in text.replace("```", "")
    assert " at 0x" not in text


def test_a_dead_link_is_an_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = website._read
    for link in ("nowhere.md", "protocol.md#nothing", "../../outside.txt"):
        text = f"# X\n\n[x]({link})\n"
        monkeypatch.setattr(
            website, "_read", lambda name, text=text: text if name == "docs/concepts.md" else real(name)
        )
        with pytest.raises(website.Dead, match="concepts"):
            website.build(str(tmp_path))


def test_text_of_a_document_is_never_markup(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    real = website._read
    text = "# <script>1</script>\n\n<img src=x>\n"
    monkeypatch.setattr(website, "_read", lambda name: text if name == PAGE else real(name))
    website.build(str(tmp_path))
    written = (tmp_path / "docs" / "concepts.html").read_text("utf-8")
    assert "<script>" not in written
    assert "<img" not in written
    assert os.path.exists(tmp_path / "index.html")
