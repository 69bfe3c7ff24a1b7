"""What must hold of the built site: every link and anchor leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What makes a browser fetch something without being asked: the element, and its attribute.
_LOADS = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("object", "data"),
    ("embed", "src"),
    ("use", "href"),
}


class _Page(HTMLParser):
    """What one page has: anchors, where its links lead, what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loads += [
            value
            for name, value in given.items()
            if (tag, name) in _LOADS and given.get("rel") not in ("canonical", "next", "prev")
        ]
        for style in re.findall(r"url\(([^)]+)\)", given.get("style", "")):
            self.loads.append(style.strip("'\""))


def faults(site: Path) -> list[str]:
    """Return a line for everything in a built site that leads nowhere, or would be fetched from another server."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        for link in page.links:
            said = _lost(link, path, pages) if path.name != "404.html" else None
            found += [f"{where}: {link}: {said}"] if said else []
        for load in page.loads:
            if urlsplit(load).netloc:
                found.append(f"{where}: loads {load} from elsewhere")
            elif not load.startswith(("data:", "#")) and path.name != "404.html" and _lost(load, path, pages):
                found.append(f"{where}: loads {load}, which is not there")
    for path in sorted(site.rglob("*.css")):
        for load in re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", path.read_text(encoding="utf-8")):
            if urlsplit(load[0] or load[1]).netloc:
                found.append(f"{path.relative_to(site)}: loads {load[0] or load[1]} from elsewhere")
    return found


def _lost(link: str, path: Path, pages: dict[Path, _Page]) -> str | None:
    """Return what is wrong with a link of a page, None where it leads somewhere or out of the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors and not anchor.startswith("__"):
        return "no such anchor"
    return None
