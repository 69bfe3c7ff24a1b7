"""Uni-Sign's label files, as it lays them out for each data set, make a manifest without the corpus itself."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.datasets.unisign_labels import Label, read_labels
from signet_train.data.manifest import Row

H2S = "-fZc293MpJk_2-1-rgb_front"
ASL = "Mci9oyb5V2E-00:00:05.333-00:00:11.166"


def label(name: str, text: str, gloss: object = "", key: str | None = None) -> dict[str, dict[str, object]]:
    """An entry as Uni-Sign writes it; How2Sign's and OpenASL's are named by the video's file."""
    file = name if name.endswith(".mp4") else f"{name}.mp4"
    return {key or name: {"name": name, "gloss": gloss, "text": text, "video_path": file}}


def write(root: Path, name: str, *entries: Mapping[str, object]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    content = {key: entry for entries_ in entries for key, entry in entries_.items()}
    (root / name).write_bytes(gzip.compress(pickle.dumps(content, 4)))
    return root


def how2sign(root: Path) -> Path:
    write(root, "labels.train", label("--7E2sU6zP4_10-5-rgb_front.mp4", "And I call them decorative elements."))
    return write(root, "labels.test", label(f"{H2S}.mp4", "Hi!"))


def openasl(root: Path) -> Path:
    write(root, "labels.train", label("a1nFdgokPwB-00:00:14.100-00:00:17.266.mp4", " Are you  bored? "))
    write(root, "labels.dev", label("1nFdgokPwBw-00:00:28.133-00:00:30.500.mp4", "Songs."))
    return write(root, "labels.test", label(f"{ASL}.mp4", "I am Ed."))


def wlasl(root: Path) -> Path:
    write(root, "labels-2000.train", label("65097", "art"))
    write(root, "labels-2000.dev", label("02123", "a lot"))
    return write(root, "labels-2000.test", label("66039", "a"))


def test_how2sign_has_no_validation_split(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    rows = reader("how2sign")(how2sign(tmp_path))
    assert [row.split for row in rows] == ["train", "test"]
    assert rows[1] == Row(
        id=H2S,
        split="test",
        poses=f"poses/{H2S}.npz",
        text="Hi!",
        language="en",
        sign_language="ase",
        video=str(tmp_path / "rgb_format/test" / f"{H2S}.mp4"),
        signer="1",
    )
    passes_check(rows)


def test_how2sign_s_own_validation_table_fills_the_gap(tmp_path: Path) -> None:
    header = "VIDEO_NAME\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE\n"
    table = header + f"-fZc293MpJk-1-rgb_front\t{H2S}\t0.26\t6.79\tHi.\n"
    (how2sign(tmp_path) / "how2sign_realigned_val.csv").write_text(table.replace(H2S, "v_1-8-rgb_front"))
    rows = {row.split: row for row in reader("how2sign")(tmp_path)}
    assert (rows["dev"].id, rows["dev"].end, rows["train"].end) == ("v_1-8-rgb_front", 6.79, None)
    # where both are, the corpus' own says more
    (tmp_path / "how2sign_realigned_test.csv").write_text(table)
    test = {row.split: row for row in reader("how2sign")(tmp_path)}["test"]
    assert (test.id, test.text, test.end) == (H2S, "Hi.", 6.79)


def test_a_how2sign_label_file_that_should_be_there_is_named(tmp_path: Path) -> None:
    (how2sign(tmp_path) / "labels.train").unlink()
    with pytest.raises(InputError, match=r"no labels\.train there; https://github\.com/ZechengLi19/Uni-Sign publishes"):
        reader("how2sign")(tmp_path)


def test_openasl(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    rows = reader("openasl")(openasl(tmp_path))
    assert [(row.split, row.text) for row in rows] == [
        ("train", "Are you bored?"),
        ("dev", "Songs."),
        ("test", "I am Ed."),
    ]
    assert rows[2] == Row(
        id=ASL,
        split="test",
        poses=f"poses/{ASL}.npz",
        text="I am Ed.",
        language="en",
        sign_language="ase",
        video=str(tmp_path / "rgb_format/test" / f"{ASL}.mp4"),
    )
    passes_check(rows)


def test_openasl_clips_are_taken_from_wherever_they_are(tmp_path: Path) -> None:
    clip = tmp_path / "video-clip" / f"{ASL}.mp4"
    clip.parent.mkdir()
    clip.touch()
    assert reader("openasl")(openasl(tmp_path))[2].video == str(clip)


def test_openasl_s_own_table_says_more_than_labels(tmp_path: Path) -> None:
    header = "vid\tyid\tstart\tend\traw-text\tsplit\n"
    line = f"{ASL}\tMci9oyb5V2E\t00:00:05.333\t00:00:11.166\tI am Ed Bosson.\ttest\n"
    (openasl(tmp_path) / "openasl-v1.0.tsv").write_text(header + line)
    assert [row.text for row in reader("openasl")(tmp_path)] == ["I am Ed Bosson."]


def test_wlasl2000(tmp_path: Path, passes_check: Callable[[Iterable[Row]], None]) -> None:
    rows = reader("wlasl2000")(wlasl(tmp_path))
    assert [(row.id, row.split, row.gloss) for row in rows] == [
        ("65097", "train", "art"),
        ("02123", "dev", "a lot"),
        ("66039", "test", "a"),
    ]
    assert rows[1] == Row(
        id="02123",
        split="dev",
        poses="poses/02123.npz",
        text="a lot",
        language="en",
        sign_language="ase",
        video=str(tmp_path / "rgb_format/val/02123.mp4"),
        gloss="a lot",
    )
    passes_check(rows)


def test_the_signs_of_wlasl100_are_in_the_corpus_own_file_only(tmp_path: Path) -> None:
    wlasl(tmp_path)
    with pytest.raises(InputError, match=r"no WLASL_v0\.3\.json .*; labels-2000\.\* do not tell which 100 signs"):
        reader("wlasl100")(tmp_path)
    entries = [{"gloss": f"sign {n}", "instances": []} for n in range(99)]
    art = {"gloss": "art", "instances": [{"video_id": "65097", "split": "train", "signer_id": 1}]}
    (tmp_path / "WLASL_v0.3.json").write_text(f"{[art, *entries]}".replace("'", '"'))
    assert [(row.id, row.signer) for row in reader("wlasl100")(tmp_path)] == [("65097", "1")]


def test_videos_lie_in_the_folder_of_data_sets_beside_that_of_labels(tmp_path: Path) -> None:
    labels = wlasl(tmp_path / "data" / "WLASL")
    assert reader("wlasl2000")(labels)[1].video == str(labels / "rgb_format/val/02123.mp4")
    there = tmp_path / "dataset" / "WLASL" / "rgb_format"
    there.mkdir(parents=True)
    assert reader("wlasl2000")(labels)[1].video == str(there / "val/02123.mp4")
    (there / "dev").mkdir()  # as Uni-Sign's code has it
    assert reader("wlasl2000")(labels)[1].video == str(there / "dev/02123.mp4")


def test_csl_daily_clips_and_frames(tmp_path: Path) -> None:
    name = "S000020_P0000_T00"
    for split in ("train", "dev", "test"):
        write(tmp_path / "data" / "CSL_Daily", f"labels.{split}", label(name, "他今年四岁。", ["他", "今天", "4"]))
    root = tmp_path / "data" / "CSL_Daily"
    row = reader("csl-daily")(root)[0]
    assert (row.gloss, row.video, row.fps) == ("他 今天 4", str(root / "sentence-crop" / f"{name}.mp4"), None)
    frames = tmp_path / "dataset" / "CSL_Daily" / "sentence" / "frames_512x512"
    frames.mkdir(parents=True)
    row = reader("csl-daily")(root)[0]
    assert (row.video, row.fps) == (str(frames / name), 30.0)


def test_labels_without_text_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "labels.dev", label("a", " "), label("b", "x"))
    assert read_labels(tmp_path, "dev") == [Label("b", "x", None)]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "a", "text": "x"}, "'k': not a label with video_path, text"),
        ({"name": "a", "video_path": "a.mp4"}, "'k': not a label"),
        ({"text": "x", "video_path": None}, "'k': not a label"),
        ({"text": ["x"], "video_path": "a.mp4"}, "'k': not a label"),
        ({"text": "x", "video_path": "a.mp4", "gloss": 7}, "'k': not a label"),
        ({"text": "x", "video_path": "a.mp4", "gloss": [7]}, "'k': not a label"),
        (["a.mp4", "x"], "'k': not a label"),
        ({"text": "\ud800", "video_path": "a.mp4"}, "'k': not a label"),
        ({"text": "x", "video_path": "a.avi"}, "'k': its video_path 'a.avi' is not the name of an .mp4 file"),
        ({"text": "x", "video_path": "../a.mp4"}, "'k': '../a' cannot name a clip"),
        ({"text": "x", "video_path": "train/a.mp4"}, "'k': 'train/a' cannot name a clip"),
        ({"text": "x", "video_path": ".mp4"}, "'k': '' cannot name a clip"),
    ],
)
def test_a_broken_label_is_named_by_its_key(tmp_path: Path, record: object, message: str) -> None:
    write(tmp_path, "labels.dev", label("a", "x"), {"k": record})
    with pytest.raises(InputError) as raised:
        read_labels(tmp_path, "dev")
    assert f"{tmp_path / 'labels.dev'}: {message}" in str(raised.value)
    assert "\n" not in str(raised.value)


class _Gadget:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


def test_a_label_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "made-by-the-pickle"
    write(tmp_path, "labels.dev", label("a", "x"), {"k": {"text": _Gadget(victim), "video_path": "a.mp4"}})
    with pytest.raises(InputError, match=r"labels\.dev: refused, its pickle asks for posix\.mkdir"):
        read_labels(tmp_path, "dev")
    assert not victim.exists()


_plain = st.recursive(
    st.none() | st.integers() | st.text(st.characters(), max_size=8) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "gloss", "video_path", "name"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(content=_plain | st.dictionaries(st.text(max_size=3), _plain, max_size=3))
def test_whatever_plain_data_it_is_there_are_labels_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    root = tmp_path_factory.mktemp("labels")
    (root / "labels.dev").write_bytes(gzip.compress(pickle.dumps(content, 4)))
    try:
        labels = read_labels(root, "dev")
    except InputError as error:
        assert "labels.dev" in str(error)
        assert "\n" not in str(error)
    else:
        assert all(found.clip and found.text for found in labels)
