from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.manifest import Row

TRAIN, ALIGNED, VAL, BY_MODEL, TEST, CHALLENGE = (f"{n}085344787448740525" for n in range(4, 10))
SUBSETS = {
    "train": [TRAIN, ALIGNED, TEST],
    "val": [VAL, BY_MODEL],
    "public_test": [TEST],
    "challenge_test": [CHALLENGE],
}
V1_4 = {
    "subsets": "original_data/metadata/subset2episode.json",
    "videos": "original_data/videos/mp4",
    "manual": "manual_annotations/signing_aligned_subtitles",
    "automatic": "automatic_annotations/signing_aligned_subtitles/auto_sat_aligned",
}
V1_2 = {
    "subsets": "subset2episode.json",
    "videos": "videos",
    "manual": "subtitles/manually-aligned",
    "automatic": "subtitles/audio-aligned-heuristic-correction",
}


def vtt(*cues: tuple[str, str, str]) -> str:
    return "WEBVTT\n\n" + "\n".join(f"00:00:{start} --> 00:00:{end}\n{text}\n" for start, end, text in cues)


def release(root: Path, layout: dict[str, str], name: str = "{}.vtt") -> Path:
    for directory in (layout["manual"], layout["automatic"]):
        (root / directory).mkdir(parents=True)
    subsets = root / layout["subsets"]
    subsets.parent.mkdir(parents=True, exist_ok=True)
    subsets.write_text(json.dumps(SUBSETS))
    by_hand = vtt(("01.000", "02.500", "By hand."), ("03.000", "05.000", "[NOT-SIGNED] Spoken."))
    for directory, episodes, text in (
        ("manual", (ALIGNED, VAL, TEST), by_hand),
        (
            "automatic",
            (TRAIN, ALIGNED, VAL, BY_MODEL, CHALLENGE),
            vtt(("01.000", "02.500", "By a model."), ("03.000", "03.900", "Short.")),
        ),
    ):
        for episode in episodes:
            path = root / layout[directory] / name.format(episode)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return root


def read(root: Path) -> list[Row]:
    return reader("bobsl")(root)


def test_version_1_4(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    root = release(tmp_path / "bobsl" / "v1.4", V1_4)
    rows = read(tmp_path)
    assert rows == read(root)
    assert {(row.split, row.id, row.text) for row in rows} == {
        ("train", f"{TRAIN}-1000-2500", "By a model."),
        ("train", f"{ALIGNED}-1000-2500", "By hand."),
        ("dev", f"{VAL}-1000-2500", "By hand."),
        ("test", f"{TEST}-1000-2500", "By hand."),  # though it is listed for training, too
    }
    (row,) = (row for row in rows if row.id.startswith(TRAIN))
    assert row == Row(
        id=f"{TRAIN}-1000-2500",
        split="train",
        poses=f"poses/{TRAIN}-1000-2500.npz",
        text="By a model.",
        language="en",
        sign_language="bfi",
        video=str(root / "original_data" / "videos" / "mp4" / f"{TRAIN}.mp4"),
        start=1.0,
        end=2.5,
    )
    passes_check(rows)


@pytest.mark.parametrize("name", ["{}.vtt", "{}/signhd.vtt"])
def test_version_1_2_s_audio_is_followed_by_the_signing(tmp_path: Path, name: str) -> None:
    rows = {row.id: row for row in read(release(tmp_path, V1_2, name))}
    late = rows[f"{TRAIN}-3700-5200"]
    assert (late.start, late.end) == pytest.approx((3.7, 5.2))
    assert late.video == str(tmp_path / "videos" / f"{TRAIN}.mp4")
    assert rows[f"{ALIGNED}-1000-2500"].text == "By hand."
    assert len(rows) == 4


def test_dev_and_test_keep_sentences_of_any_length(tmp_path: Path) -> None:
    root = release(tmp_path, V1_4)
    path = root / V1_4["manual"] / f"{VAL}.vtt"
    path.write_text(vtt(("01.000", "01.500", "Yes."), ("02.000", "45.000", "No.")))
    assert [row.text for row in read(root) if row.split == "dev"] == ["Yes.", "No."]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no original_data/metadata/subset2episode\.json or subset2episode\.json"):
        read(tmp_path)
    root = release(tmp_path, V1_4)
    subsets = root / V1_4["subsets"]
    for content, message in (
        ("[]", "not lists of episodes"),
        ('{"train": {}}', "not lists of episodes"),
        ('{"training": ["1"]}', "unknown subset 'training'"),
        ('{"train": ["../1"]}', "cannot name a clip"),
        ("{", "not JSON"),
    ):
        subsets.write_text(content)
        with pytest.raises(InputError, match=rf"subset2episode\.json: .*{message}"):
            read(root)
    subsets.write_text(json.dumps(SUBSETS))
    for path in (root / V1_4["automatic"]).iterdir():
        path.unlink()
    (root / V1_4["automatic"]).rmdir()
    with pytest.raises(InputError, match=r"no automatic_annotations/signing_aligned_subtitles/auto_sat_aligned there"):
        read(root)
