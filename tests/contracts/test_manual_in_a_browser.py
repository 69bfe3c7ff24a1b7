"""The built manual in a real browser, opened from a disk: searched, in dark and light, at a phone's width, offline."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manual.__main__ import build

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytest.importorskip("zensical", reason="the manual needs .[docs]")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("manual"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of an empty window, with what it asked for and what went wrong in it."""
    shown = browser.new_page()
    shown.asked, shown.wrong = [], []
    shown.on("request", lambda request: shown.asked.append(request.url))
    shown.on("pageerror", lambda error: shown.wrong.append(str(error)))
    yield shown
    shown.close()


def test_nothing_is_asked_of_anybody_and_nothing_goes_wrong(site: Path, page: Any) -> None:
    every = sorted(site.rglob("*.html"))
    assert len(every) > 40
    for path in every:
        page.goto(path.as_uri())
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.wrong == []


def test_it_is_searched_from_a_disk(site: Path, page: Any) -> None:
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("hand prior", delay=20)
    page.get_by_text("How it works").last.wait_for(timeout=10_000)
    assert page.wrong == []


def test_no_page_is_wider_than_a_phone(site: Path, page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in sorted(site.glob("*.html")):
        page.goto(path.as_uri())
        width = page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= 390, f"{path.name} is {width} pixels wide"


def test_figures_and_text_are_read_in_dark_and_light(site: Path, browser: Any) -> None:
    seen = set()
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((site / "how-it-works.html").as_uri())
        assert page.locator("figure.drawn svg").count() == 6
        for words, ground in (("svg text.f-ink", "svg rect.f-panel"), (".md-typeset p", "body")):
            colours = [
                page.evaluate(f"getComputedStyle(document.querySelector({place!r})).{what}")
                for place, what in (
                    (words, "fill" if "svg" in words else "color"),
                    (ground, "fill" if "svg" in ground else "backgroundColor"),
                )
            ]
            assert contrast(*colours) > 7, colours
            seen.add(tuple(colours))
        page.close()
    assert len(seen) == 4


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours, given as rgb(r, g, b)."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
