from __future__ import annotations

import gzip
import json
import pickle
import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from stores import write_store

from signet_runtime.errors import InputError
from signet_runtime.pose.sequence import PoseSequence
from signet_train.commands.manifest import manifest
from signet_train.data import datasets
from signet_train.data.datasets import DATASETS
from signet_train.data.manifest import Row, read_manifest
from signet_train.data.poses import load_poses

METADATA = "file_name,text,split,language,sign_language,start,end\n"


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory has a folder ``clips`` of three recordings: two German ones, one without a language."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "clips"
    root.mkdir()
    (root / "metadata.csv").write_text(
        f"{METADATA}a.mp4,Hallo,train,de,gsg,0,1800\nb.mp4,Tschüss,dev,de,gsg,,\nc.mp4,Hi,test,,,,\n", encoding="utf-8"
    )
    for name in "abc":
        (root / f"{name}.mp4").touch()
    return root


def run(*arguments: str) -> Result:
    """The command's result; what the group would turn into one line and an exit code is raised."""
    result = CliRunner().invoke(manifest, arguments)
    if isinstance(result.exception, InputError):
        raise result.exception
    return result


def make(*arguments: str) -> list[Row]:
    result = run("videos", "clips", "--out", "data/m.parquet", *arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    return read_manifest(Path("data/m.parquet")).rows


def test_the_manifest_is_written_with_absolute_videos(clips: Path) -> None:
    rows = make("--sign-language", "gsg", "--language", "de")
    assert [(row.id, row.text, row.poses) for row in rows] == [
        ("a-0-1800000", "Hallo", "poses/a-0-1800000.npz"),
        ("b", "Tschüss", "poses/b.npz"),
        ("c", "Hi", "poses/c.npz"),
    ]
    assert {row.language + row.sign_language for row in rows} == {"degsg"}
    assert rows[1].video == str(clips / "b.mp4")


def test_rows_of_other_languages_are_left_out(clips: Path) -> None:
    assert [row.text for row in make("--sign-language", "ase", "--language", "en")] == ["Hi"]
    assert [row.text for row in make("--sign-language", "gsg", "--language", "de")] == ["Hallo", "Tschüss", "Hi"]
    with pytest.raises(InputError, match=r"--sign-language ase: no such rows; there are gsg"):
        (clips / "metadata.csv").write_text(f"{METADATA}a.mp4,Hallo,train,de,gsg,,\n")
        make("--sign-language", "ase")


def test_a_published_data_set_is_filtered_by_sign_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("youtube-sl-25-metadata.csv").write_text("aaaaaaaaaaa,gsg\nbbbbbbbbbbb,bfi\n")
    for name in ("aaaaaaaaaaa.de", "bbbbbbbbbbb.en"):
        Path(f"{name}.vtt").write_text(f"WEBVTT\n\n00:00.000 --> 00:01.000\n{name}\n")
    arguments = ["youtube-sl-25", ".", "--out", "m.jsonl", "--sign-language"]
    assert run(*arguments, "bfi").exit_code == 0
    (row,) = read_manifest(Path("m.jsonl")).rows
    assert (row.text, row.video) == ("bbbbbbbbbbb.en", str(tmp_path / "bbbbbbbbbbb.mp4"))
    with pytest.raises(InputError, match="--sign-language bsl: no such rows; there are bfi, gsg"):
        run(*arguments, "bsl")


def test_keypoints_that_are_there_already(clips: Path) -> None:
    archive = clips.parent / "archive"
    for name in ("train/a-0-1800000", "val/b"):
        (archive / name).parent.mkdir(parents=True)
        (archive / f"{name}.pkl").touch()
    rows = make("--sign-language", "gsg", "--language", "de", "--poses", "archive/{split}/{id}.pkl")
    assert [row.poses for row in rows] == [
        str(archive / "train" / "a-0-1800000.pkl"),
        str(archive / "val" / "b.pkl"),  # as the archive calls dev
        str(archive / "test" / "c.pkl"),
    ]


def store(path: Path, *ids: str) -> None:
    path.parent.mkdir(exist_ok=True)
    poses = PoseSequence(np.random.default_rng(0).random((3, 133, 2)), np.ones((3, 133)), 25.0, (64, 48), "rtmpose")
    write_store(path, [(clip, poses) for clip in ids])


def test_keypoints_in_a_store(clips: Path) -> None:
    store(clips.parent / "poses" / "all.arrow", "a-0-1800000", "b")
    arguments = ["videos", "clips", "--out", "data/m.parquet", "--sign-language", "gsg", "--language", "de"]
    result = run(*arguments, "--poses", "poses/all.arrow#{id}")
    place = f"{clips.parent}/poses/all.arrow#"
    assert result.stderr.splitlines()[-2:] == [
        f"  keypoints: there for 2 of 3 rows ({place}a-0-1800000, …)",
        "Next: signet-train check data/m.parquet",  # a store is no place to extract keypoints to
    ]
    manifest_ = read_manifest(Path("data/m.parquet"))
    assert [row.poses for row in manifest_.rows] == [place + clip for clip in ("a-0-1800000", "b", "c")]
    assert len(load_poses(manifest_.rows[1].poses, manifest_.root)) == 3


def test_a_store_for_each_split(clips: Path) -> None:
    store(clips.parent / "poses" / "val.arrow", "b")
    rows = make("--sign-language", "gsg", "--language", "de", "--poses", "poses/{split}.arrow#{id}")
    assert [row.poses.removeprefix(f"{clips.parent}/poses/") for row in rows] == [
        "train.arrow#a-0-1800000",
        "val.arrow#b",
        "test.arrow#c",
    ]


def test_keypoints_named_npz_are_not_extracted_into_a_store(clips: Path) -> None:
    result = run(
        "videos",
        "clips",
        "--out",
        "m.jsonl",
        "--language",
        "de",
        "--sign-language",
        "gsg",
        "--poses",
        "poses/all.arrow#{id}.npz",
    )
    assert result.stderr.endswith("Next: signet-train check m.jsonl\n")


def test_a_damaged_store_is_one_line_and_no_manifest(clips: Path) -> None:
    (clips.parent / "all.arrow").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"all\.arrow: not a pose store"):
        make("--sign-language", "gsg", "--language", "de", "--poses", "all.arrow#{id}")
    assert not Path("data").exists()


def test_rows_know_their_corpus(clips: Path) -> None:
    labels = clips.parent / "WLASL"
    labels.mkdir()
    for split, clip in (("train", "65097"), ("dev", "02123"), ("test", "66039")):
        label = {"name": clip, "gloss": "", "text": "art", "video_path": f"{clip}.mp4"}
        (labels / f"labels-2000.{split}").write_bytes(gzip.compress(pickle.dumps({clip: label})))
    assert run("wlasl2000", "WLASL", "--out", "m.parquet").exit_code == 0
    assert {row.corpus for row in read_manifest(Path("m.parquet")).rows} == {"wlasl"}
    # one's own recordings are nobody's corpus
    assert {row.corpus for row in make("--sign-language", "gsg", "--language", "de")} == {None}


def test_every_published_data_set_has_a_corpus() -> None:
    corpora = {name: dataset.corpus for name, dataset in DATASETS.items()}
    assert corpora.pop("videos") is None
    assert corpora.pop("wlasl100") == corpora.pop("wlasl2000") == "wlasl"
    assert corpora.pop("signverse") == "signverse-2m"
    assert corpora == {name: name for name in corpora}


def test_every_reader_is_in_the_table_and_nowhere_else() -> None:
    package = Path(datasets.__file__).parent
    readers = {path.stem for path in package.glob("*.py") if "\ndef read(" in path.read_text()}
    assert readers == {dataset.module for dataset in DATASETS.values()}
    for path in package.parent.parent.rglob("*.py"):
        if path.parent != package:
            named = re.findall(r"datasets(?:\.| import )(\w+)", path.read_text())
            assert not readers.intersection(named), path


def test_the_summary_counts_rows_hours_and_keypoints(clips: Path) -> None:
    arguments = ["videos", "clips", "--out", "data/m.parquet", "--sign-language", "gsg", "--language", "de"]
    assert run(*arguments).stderr.splitlines() == [
        "videos: 3 rows in data/m.parquet",
        "  train: 1 rows, 0.5 h",
        "  dev: 1 rows",
        "  test: 1 rows",
        "  keypoints: there for 0 of 3 rows (poses/a-0-1800000.npz, …)",
        "Next: signet-train extract-poses data/m.parquet",
    ]
    poses = clips.parent / "data" / "poses"
    poses.mkdir()
    for row in read_manifest(Path("data/m.parquet")).rows:
        (poses / f"{row.id}.npz").touch()
    assert run(*arguments).stderr.splitlines()[-2:] == [
        "  keypoints: there for 3 of 3 rows (poses/a-0-1800000.npz, …)",
        "Next: signet-train check data/m.parquet",
    ]
    # keypoints of another format are somebody else's: there is nothing to extract them to
    assert run(*arguments, "--poses", "x/{id}.pkl").stderr.endswith("Next: signet-train check data/m.parquet\n")


def test_hours_say_of_how_many_rows_they_are(clips: Path) -> None:
    path = clips / "metadata.csv"
    path.write_text(f"{METADATA}a.mp4,x,train,de,gsg,0,5400\nb.mp4,y,train,de,gsg,,\n")
    assert "  train: 2 rows, 1.5 h (known of 1 rows)\n" in run("videos", "clips", "--out", "m.jsonl").stderr


def test_nothing_is_written_when_there_is_nothing_or_an_id_is_there_twice(clips: Path) -> None:
    (clips / "metadata.csv").write_text(METADATA)
    with pytest.raises(InputError, match="clips: nothing to put into a manifest was found"):
        make()
    (clips / "metadata.csv").write_text(METADATA + 2 * "a.mp4,x,train,de,gsg,,\n")
    with pytest.raises(InputError, match="the id 'a' occurs twice"):
        make()
    assert not Path("data").exists()


def test_a_manifest_that_is_there_is_replaced(clips: Path) -> None:
    assert len(make("--sign-language", "gsg", "--language", "de")) == 3
    assert len(make("--sign-language", "ase", "--language", "en")) == 1


def test_json_lines_are_written_too(clips: Path) -> None:
    assert run("videos", "clips", "--out", "m.jsonl", "--sign-language", "ase", "--language", "en").exit_code == 0
    assert json.loads(Path("m.jsonl").read_text())["text"] == "Hi"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "clips", "--out", "m.jsonl"], "'nothing' is not one of"),
        (["videos", "nowhere", "--out", "m.jsonl"], "does not exist"),
        (["videos", "clips"], "--out"),
        (["videos", "clips", "--out", "m.jsonl", "--poses", "poses/all.npz"], "without {id}"),
        (["videos", "clips", "--out", "m.jsonl", "--poses", "{id}/{name}.npz"], "{name} is not known"),
        (["videos", "clips", "--out", "m.jsonl", "--poses", "poses/all.arrow"], "poses/all.arrow#{id} is"),
    ],
)
@pytest.mark.usefixtures("clips")
def test_wrong_usage(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_help_names_every_data_set() -> None:
    assert isinstance(manifest, click.Command)
    text = CliRunner().invoke(manifest, ["--help"]).stdout
    assert all(name in text for name in DATASETS)
    assert "  Example: signet-train manifest phoenix14t PHOENIX-2014-T --out data/phoenix14t.parquet\n" in text
    assert all(len(line) <= 100 for line in text.splitlines())
