from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.datasets.splits import hash_split
from signet_train.data.manifest import Row

FIRST, SECOND, GONE = "-urXXDI0OiE", "z3thwypVsjw", "EMqOLXi0nmw"


def captions(*texts: str, seconds: float = 2.0) -> str:
    cues = [f"00:00:{4 * i:02}.000 --> 00:00:{4 * i + seconds:06.3f}\n{text}\n" for i, text in enumerate(texts)]
    return "WEBVTT\nKind: captions\nLanguage: en\n\n" + "\n".join(cues)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "youtube_asl_video_ids.txt").write_text(f"{FIRST}\n{SECOND}\n{GONE}\n")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / f"{FIRST}.mp4").touch()
    (tmp_path / "videos" / f"{FIRST}.en.vtt").write_text(captions("Hello &amp; welcome.", "I'm Deaf."))
    (tmp_path / "videos" / f"{FIRST}.es.vtt").write_text(captions("Hola."))
    (tmp_path / "videos" / f"{SECOND}.en-GB.vtt").write_text(captions("Good morning."))
    (tmp_path / "videos" / "AAAAAAAAAAA.en.vtt").write_text(captions("Not listed."))
    return tmp_path


def read(root: Path) -> list[Row]:
    return reader("youtube-asl")(root)


def test_each_cue_of_the_english_captions_is_a_row(root: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    rows = read(root)
    assert rows[0] == Row(
        id=f"{FIRST}-0-2000",
        split=hash_split(FIRST),
        poses=f"poses/{FIRST}-0-2000.npz",
        text="Hello & welcome.",
        language="en",
        sign_language="ase",
        video=str(root / "videos" / f"{FIRST}.mp4"),
        start=0.0,
        end=2.0,
    )
    assert [row.text for row in rows] == ["Hello & welcome.", "I'm Deaf.", "Good morning."]
    # not downloaded yet: expected beside its captions
    assert rows[2].video == str(root / "videos" / f"{SECOND}.mp4")
    passes_check(rows)


def test_plain_english_is_preferred_and_the_sign_language_s_code_means_english(root: Path) -> None:
    for track in ("en-eEY6OEpapPo", "en-AU", "ase"):
        (root / "videos" / f"{FIRST}.{track}.vtt").write_text(captions("Another track."))
    (root / "videos" / f"{SECOND}.en-GB.vtt").rename(root / "videos" / f"{SECOND}.ase.vtt")
    assert [row.text for row in read(root)] == ["Hello & welcome.", "I'm Deaf.", "Good morning."]


def test_cues_that_translate_nothing_are_left_out(root: Path) -> None:
    path = root / "videos" / f"{FIRST}.en.vtt"
    path.write_text(captions("[Music]", "♪ ♪", "(laughs) [sighs]", "[laughs] That's it.", "x" * 301, "x" * 300))
    assert [row.text for row in read(root)] == ["[laughs] That's it.", "x" * 300, "Good morning."]
    path.write_text(captions("Too short.", seconds=0.199))
    assert [row.text for row in read(root)] == ["Good morning."]
    path.write_text("WEBVTT\n\n00:00.000 --> 01:00.001\nToo long.\n\n02:00.000 --> 03:00.000\nJust right.\n")
    assert [row.text for row in read(root)] == ["Just right.", "Good morning."]


def test_videos_and_captions_may_lie_apart_and_the_list_be_named_by_the_bucket_s_page(root: Path) -> None:
    (root / "youtube_asl_video_ids.txt").rename(root / "youtube-asl_youtube_asl_video_ids.txt")
    (root / "captions").mkdir()
    (root / "videos" / f"{FIRST}.en.vtt").rename(root / "captions" / f"{FIRST}.en.vtt")
    assert read(root)[0].video == str(root / "videos" / f"{FIRST}.mp4")


def test_errors(root: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"no youtube_asl_video_ids\.txt.*https://storage\.googleapis\.com"):
        read(tmp_path_factory.mktemp("empty"))
    (root / "videos" / f"{FIRST}.en.vtt").write_text("WEBVTT\n\n0 --> 1\nx\n")
    assert read(root)  # one bad file stops nobody
    assert f"left out: {root}/videos/{FIRST}.en.vtt: line 3" in caplog.text
    for path in root.glob("videos/*.vtt"):
        path.write_text("WEBVTT\n\n0 --> 1\nx\n")
    with pytest.raises(InputError, match=r"\.vtt: line 3"):
        read(root)
    for path in root.glob("videos/*.vtt"):
        path.unlink()
    with pytest.raises(InputError, match=r"no captions of a listed video below.*yt-dlp --write-subs"):
        read(root)
    (root / "youtube_asl_video_ids.txt").write_text(f"{FIRST}\nhttps://youtu.be/{SECOND}\n")
    with pytest.raises(InputError, match=r"line 2: 'https:.*' is not a YouTube video id"):
        read(root)
