"""The page of `signet-serve` in a real browser: what people see, hear of from a screen reader, and can do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import (
    EXAMPLES,
    as_camera,
    drawn,
    events,
    give,
    is_too_wide,
    launched,
    pose,
    refuse,
    sentence,
    sentences,
    serious,
    served,
)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it comes with [dev]")
pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed; it comes with [dev]")
expect = playwright.expect
expect.set_options(timeout=30_000)  # milliseconds, on a machine that does other things

MUSIC = EXAMPLES / "ase_music.mp4"
SCHEMES = ("light", "dark")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture(scope="module")
def browser(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One whose camera shows the example again and again, the hands at rest in between."""
    film = as_camera(MUSIC, tmp_path_factory.mktemp("camera") / "music.mjpeg", still=1.6)
    with launched(driver, "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}") as found:
        yield found


@pytest.fixture
def open_page(browser: Any, server: str) -> Iterator[Open]:
    """Open the page as somebody would, with a browser that is set up in some way; nothing goes wrong in it unseen."""
    contexts, wrong = [], []

    def start(*routes: tuple[str, Callable[[Any], None]], ready: bool = True, **settings: Any) -> Any:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if "Security Policy" in line.text else None)
        page.on("request", lambda asked: wrong.append(asked.url) if _is_elsewhere(asked.url, server) else None)
        page.on("filechooser", lambda chooser: None)  # caught from now on: a key is faster than a question for one
        for pattern, answer in routes:
            page.route(pattern, answer)
        page.goto(server)
        if ready:
            expect(page.get_by_role("button", name="Choose a video")).to_be_enabled()
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


def _is_elsewhere(url: str, server: str) -> bool:
    return not url.startswith((server, server.replace("http", "ws"), "blob:", "data:"))


def test_an_upload_becomes_words_under_its_skeleton(open_page: Open) -> None:
    page = open_page()
    expect(page.locator("#about")).to_contain_text("no translator of a sign language")
    give(page, MUSIC)
    expect(sentences(page)).to_have_count(1)
    expect(sentences(page)).to_contain_text("music")
    expect(page.get_by_role("status")).to_have_text("Done: 1 sentence")
    expect(page.get_by_role("meter", name="Confidence")).to_have_attribute("aria-valuenow", re.compile("9[0-9]"))
    expect(sentences(page)).to_contain_text("baltic")
    page.get_by_role("button", name=re.compile("Show 0:00 to 0:03")).click()
    expect(page.locator("#caption")).to_have_text("music")
    assert drawn(page) > 200
    page.get_by_role("checkbox", name="Skeleton").uncheck()
    page.wait_for_timeout(100)
    assert drawn(page) == 0


BEGINNINGS = {"srt": "1\n00:00:00,000 --> 00:00:03,200\nmusic\n", "vtt": "WEBVTT\n", "json": '{"model"', "eaf": "<?xml"}


@pytest.mark.parametrize(("form", "beginning"), BEGINNINGS.items(), ids=BEGINNINGS)
def test_what_was_said_can_be_downloaded(open_page: Open, form: str, beginning: str) -> None:
    said = sentence("music", end=3.2, routing={"expert_baltic": 1.0})
    page = open_page(("**/v1/translate*", events(said)))
    give(page, MUSIC)
    with page.expect_download() as download:
        page.get_by_role("button", name=form.upper()).click()
    assert download.value.suggested_filename == f"ase_music.{form}"
    content = Path(download.value.path()).read_text()
    assert content.startswith(beginning) and "music" in content


def test_what_is_no_video_is_said_to_be_none(open_page: Open) -> None:
    page = open_page()
    give(page, {"name": "notes.mp4", "mimeType": "video/mp4", "buffer": np.random.default_rng(1).bytes(4000)})
    expect(page.get_by_role("alert")).to_contain_text("notes.mp4")
    expect(page.get_by_role("button", name="Use the camera")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_file_of_keypoints_is_drawn_without_a_video(open_page: Open, tmp_path: Path) -> None:
    from signet_runtime import Translator

    with Translator() as translator:
        translator.translate(MUSIC, keypoints_out=tmp_path / "music.npz")
    page = open_page()
    give(page, tmp_path / "music.npz")
    expect(sentences(page)).to_contain_text("music")
    assert drawn(page) > 200
    expect(page.locator("#time")).to_have_text(re.compile("0:0[1-3] / 0:03"))  # it plays, by a clock of its own


def test_the_camera_is_read_live(open_page: Open) -> None:
    page = open_page(permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#caption.unfinished")).not_to_be_empty()  # before the sentence ends
    expect(sentences(page).filter(has_text=re.compile("^music"))).not_to_have_count(0)
    assert drawn(page) > 200
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("status")).to_have_text(re.compile(r"Done: \d+ sentences?"))
    assert page.evaluate("() => document.querySelector('video').srcObject") is None
    expect(page.get_by_role("button", name="SRT")).to_be_visible()


def test_a_camera_that_may_not_be_used_is_named(open_page: Open) -> None:
    page = open_page(permissions=[])
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("may not be used")
    expect(page.get_by_role("button", name="Choose a video")).to_be_visible()


def test_no_camera_is_named(driver: Any, server: str) -> None:
    with launched(driver, "--use-fake-device-for-media-stream=device-count=0") as browser:
        page = browser.new_context(permissions=["camera"]).new_page()
        page.goto(server)
        page.get_by_role("button", name="Use the camera").click()
        expect(page.get_by_role("alert")).to_contain_text("No camera was found")


def test_a_busy_server_is_asked_again_when_it_said(open_page: Open) -> None:
    answers = [refuse(503, "the server is busy", **{"Retry-After": "2"}), events(sentence("music"))]
    page = open_page(("**/v1/translate*", lambda route: answers.pop(0)(route)))
    give(page, MUSIC)
    expect(page.get_by_role("alert")).to_contain_text("The server is busy")
    expect(page.get_by_text(re.compile(r"Again in \d s"))).to_be_visible()
    expect(sentences(page)).to_contain_text("music")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_server_that_is_gone_is_named_and_may_come_back(open_page: Open) -> None:
    gone = [True]
    page = open_page(("**/v1/translate*", lambda route: route.abort() if gone[0] else events(sentence("back"))(route)))
    give(page, MUSIC)
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    gone[0] = False
    page.get_by_role("button", name="Try again").click()
    expect(sentences(page)).to_contain_text("back")


def test_what_was_read_stays_when_the_server_goes_half_way(open_page: Open) -> None:
    rng = np.random.default_rng()
    read = events(
        pose(0.0, rng), pose(0.2, rng), sentence("first"), {"type": "partial", "start": 1.0, "text": "sec"}, ended=False
    )
    page = open_page(("**/v1/translate*", read))
    give(page, MUSIC)
    expect(page.get_by_role("alert")).to_contain_text("went away")
    expect(sentences(page)).to_have_count(1)
    expect(page.get_by_role("status")).to_have_text("Broken off: 1 sentence")
    expect(page.get_by_role("button", name="SRT")).to_be_visible()


def test_a_file_that_is_too_large_is_not_sent(open_page: Open) -> None:
    sent: list[str] = []

    def limited(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "limits": {"bytes": 10_000}})

    page = open_page(("**/v1/models", limited))
    page.on("request", lambda asked: sent.append(asked.url))
    give(page, MUSIC)
    expect(page.get_by_role("alert")).to_contain_text("too large")
    assert not [url for url in sent if "translate" in url]


def test_no_model_is_said(open_page: Open) -> None:
    page = open_page(("**/v1/models", lambda route: route.fulfill(json={"models": []})), ready=False)
    expect(page.get_by_role("alert")).to_contain_text("signet-models pull")
    expect(page.get_by_role("button", name="Choose a video")).to_be_disabled()


def test_the_token_is_asked_for_and_sent(driver: Any, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("fourteen-and-two-more")
    with served("--token-file", str(tmp_path / "token")) as address:
        page = browser.new_context(permissions=["camera"]).new_page()
        page.goto(address)
        for token in ("not this one", "fourteen-and-two-more"):
            page.get_by_role("dialog").get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Use the camera")).to_be_enabled()
        page.get_by_role("button", name="Use the camera").click()
        expect(page.locator("#caption.unfinished")).not_to_be_empty(timeout=20_000)
        page.context.close()


def test_texts_and_names_are_no_markup(open_page: Open) -> None:
    evil = "<img src=x onerror=document.title=1><b>&amp;"
    said = sentence(evil, routing={evil: 1.0}, language='"><script>')
    page = open_page(("**/v1/translate*", events({"type": "notice", "message": evil}, said)))
    give(page, {"name": f"{evil}.mp4", "mimeType": "video/mp4", "buffer": b"x"})
    expect(sentences(page)).to_contain_text(evil)
    expect(page.get_by_role("list", name="Notes")).to_contain_text(evil)
    assert page.evaluate("() => document.querySelectorAll('img[src=x], [role=log] b, #notices b').length") == 0


def test_what_the_model_is_not_sure_of_does_not_look_sure(open_page: Open) -> None:
    said = [
        sentence("", suppressed=True),
        sentence("perhaps", reliability=0.2, start=1, end=2),
        sentence("unknown", reliability=None),
    ]
    page = open_page(("**/v1/translate*", events(*said)))
    give(page, MUSIC)
    expect(sentences(page)).to_have_count(3)
    expect(sentences(page).nth(0)).to_contain_text("(not sure enough)")
    expect(sentences(page).nth(1)).to_contain_text("not sure")
    expect(sentences(page).nth(2)).to_contain_text("does not say")


def test_the_keyboard_is_enough(open_page: Open) -> None:
    """From the start to a download, with a focus that can be seen wherever it is."""
    page = open_page()

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            focused = page.locator(":focus-visible")
            shown = page.evaluate(
                """() => { const at = document.activeElement;
                    const box = at.matches("input[type=range]") ? at.parentElement : at;
                    return at === document.body || getComputedStyle(box).outlineStyle !== "none"; }"""
            )
            assert shown, focused.first.evaluate("element => element.outerHTML")
            if page.get_by_role("button", name=name).and_(focused).count():
                return
        pytest.fail(f"no {name} in reach of the Tab key")

    tab_to("Choose a video")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(MUSIC)
    expect(sentences(page)).to_contain_text("music")
    expect(page.get_by_role("button", name=re.compile("^(Play|Pause)$"))).to_be_focused()
    if page.get_by_role("button", name="Pause").count():
        page.keyboard.press("Space")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    expect(page.get_by_role("slider", name="Position in the video")).to_have_attribute(
        "aria-valuetext", re.compile("^0:00")
    )
    tab_to("SRT")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert "music" in Path(download.value.path()).read_text()


def test_who_wants_little_motion_gets_none(open_page: Open) -> None:
    page = open_page(("**/v1/translate*", events(sentence("music"))), reduced_motion="reduce")
    before = page.locator("#drawing").screenshot()
    page.wait_for_timeout(300)
    assert page.locator("#drawing").screenshot() == before
    give(page, MUSIC)
    expect(sentences(page)).to_contain_text("music")
    assert page.evaluate("() => document.querySelector('video').paused")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_all_of_it(open_page: Open, width: int) -> None:
    long = sentence("Donaudampfschifffahrtsgesellschaftskapitänskajütenschlüssel", routing={"expert_" + "x" * 60: 1.0})
    page = open_page(("**/v1/translate*", events(long)), viewport={"width": width, "height": 740}, has_touch=True)
    assert not is_too_wide(page)
    give(page, {"name": "a" * 90 + ".mp4", "mimeType": "video/mp4", "buffer": b"x"})
    expect(sentences(page)).to_have_count(1)
    page.get_by_role("button", name="EAF").scroll_into_view_if_needed()
    assert not is_too_wide(page)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_serious(open_page: Open, scheme: str) -> None:
    answers = [
        refuse(503, "the server is busy", times=1),
        events(sentence("music"), sentence("perhaps", reliability=0.1)),
    ]
    page = open_page(("**/v1/translate*", lambda route: answers.pop(0)(route)), color_scheme=scheme)
    found = {"at first": serious(page)}
    give(page, MUSIC)
    expect(page.get_by_role("alert")).to_contain_text("busy")
    found["refused"] = serious(page)
    page.get_by_role("button", name="Try again").click()
    expect(sentences(page)).to_have_count(2)
    found["read"] = serious(page)
    page.evaluate("() => document.querySelector('#token').showModal()")
    found["a token"] = serious(page)
    assert not any(found.values()), found
