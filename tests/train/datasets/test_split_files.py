"""The split files that the paper's authors published: their quotation marks, their names, and what is broken in them.

Layout as read in how2sign_cleaned_test.csv and MeinDGS/{train,dev}.csv; the sentences are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from signet_train.cli import main
from signet_train.data.datasets.split_files import read_split_files
from signet_train.data.manifest import read_manifest

HOW2SIGN = "VIDEO_ID\tVIDEO_NAME\tSENTENCE_ID\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE\n"
MEINEDGS = "video_name|index|start_frame|end_frame|start_sec|end_sec|target\n"


def how2sign(number: int, sentence: str, times: str = "1.0\t2.5", video: str = "-fZc293MpJk") -> str:
    return f"{video}\t{video}-1-rgb_front\t{video}_{number}\t{video}_{number}-1-rgb_front\t{times}\t{sentence}\n"


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_how2sign_keeps_sentences_as_they_are(tmp_path: Path) -> None:
    file = write(
        tmp_path / "how2sign_cleaned_val.csv",
        HOW2SIGN,
        how2sign(0, "Hi!"),
        how2sign(5, '"You can\'t stop in the middle and say, ""You know what?"'),
        how2sign(6, '"I don\'t want to do this"", because nobody knows where you land."'),
        how2sign(7, 'It\'s 1 1/2 turns, said "so" in passing.'),
        how2sign(8, "Times that are none.", "4.0\t3.0"),
    )
    rows = read_split_files("how2sign", [file], tmp_path)
    assert [row.text for row in rows] == [
        "Hi!",
        "You can't stop in the middle and say, \"You know what?",
        "I don't want to do this\", because nobody knows where you land.",
        'It\'s 1 1/2 turns, said "so" in passing.',
        "Times that are none.",
    ]
    assert [row.id for row in rows][:2] == ["-fZc293MpJk_0-1-rgb_front", "-fZc293MpJk_5-1-rgb_front"]
    assert {row.split for row in rows} == {"dev"} and rows[0].poses == "poses/dev/-fZc293MpJk_0-1-rgb_front.pkl"
    assert (rows[0].start, rows[0].end) == (1.0, 2.5) and (rows[4].start, rows[4].end) == (None, None)


def test_meinedgs_keeps_sentences_as_they_are_and_names_of_two_splits_apart(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", MEINEDGS, "1583882_1a1|1|951|1026|19.02|20.52|Ich selbst/\n")
    dev = write(
        tmp_path / "dev.csv",
        MEINEDGS,
        "1583882_1a1|1|718|951|14.36|19.02|Ich sagte: „Die anderen erzählen, du seist fort?“\n",
        "1290705-16340909-16360503_1b1|58|3965|4046|79.3|80.92|… ungefähr 40 Länder. Das war’s/\n",
        "1290705-16340909-16360503_1b1|59|0|152|0.0|3.04|Der Bruder ist #193X geboren, sagt #Name1.\n",
    )
    rows = read_split_files("meinedgs", [train, dev], tmp_path)
    assert [row.id for row in rows] == [
        "train-1583882_1a1_1",
        "dev-1583882_1a1_1",
        "dev-1290705-16340909-16360503_1b1_58",
        "dev-1290705-16340909-16360503_1b1_59",
    ]
    assert [row.text for row in rows[:3]] == [
        "Ich selbst/",
        "Ich sagte: „Die anderen erzählen, du seist fort?“",
        "… ungefähr 40 Länder. Das war’s/",
    ]
    assert rows[1].poses == "poses/dev/1583882_1a1_1.h5"
    assert rows[1].video == str(tmp_path / "videos" / "1583882" / "1583882_1a1.mp4")
    assert (rows[1].start, rows[1].end, rows[1].sign_language, rows[1].language) == (14.36, 19.02, "gsg", "de")


def run(dataset: str, files: Sequence[Path], out: Path, *options: str) -> Result:
    given = [part for file in files for part in ("--split-file", str(file))]
    return CliRunner().invoke(main, ["manifest", dataset, *given, "--out", str(out), *options])


def test_the_command_needs_no_root_and_finds_poses_by_split_and_clip(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", MEINEDGS, "1583882_1a1|1|951|1026|19.02|20.52|Ich selbst/\n")
    dev = write(tmp_path / "dev.csv", MEINEDGS, "1583882_1a1|1|718|951|14.36|19.02|Sie/ Wir sind da.\n")
    (tmp_path / "pose" / "dev").mkdir(parents=True)
    (tmp_path / "pose" / "dev" / "1583882_1a1_1.h5").touch()
    result = run("meinedgs", [train, dev], tmp_path / "m.parquet", "--poses", f"{tmp_path}/pose/{{split}}/{{clip}}.h5")
    assert result.exit_code == 0, result.output
    assert "there for 1 of 2 rows" in result.stderr
    rows = read_manifest(tmp_path / "m.parquet").rows
    assert [row.poses for row in rows] == [str(tmp_path / f"pose/{s}/1583882_1a1_1.h5") for s in ("train", "dev")]
    assert {row.corpus for row in rows} == {"meinedgs"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev.csv", MEINEDGS.replace("target", "text"), "line 1: no column target"),
        ("dev.csv", MEINEDGS + "a_1a1|1|1||2|0.1|0.2|x\n", "line 2: 8 fields where the header has 7"),
        ("dev.csv", MEINEDGS + "a_1a1|1|1|2|0.1|0.2|x\nb_1a1|2|1|2|0.1|x\n", "line 3: 6 fields"),
        ("dev.csv", MEINEDGS + "a_1a1|one|1|2|0.1|0.2|x\n", "line 2: index is 'one'"),
        ("dev.csv", MEINEDGS + "a_1a1|1|1|2|soon|0.2|x\n", "line 2: start_sec is 'soon'"),
        ("dev.csv", MEINEDGS + "a_1a1|1|1|2|0.1|nan|x\n", "line 2: end_sec is 'nan'"),
        ("dev.csv", MEINEDGS + "../a|1|1|2|0.1|0.2|x\n", "line 2: '../a' cannot name"),
        ("dev.csv", MEINEDGS + "a_1a1|1|1|2|0.1|0.2| \n", "line 2: a sentence without text"),
        ("dev.csv", MEINEDGS + 'a_1a1|1|1|2|0.1|0.2|"open\nb_1a1|2|1|2|0.1|0.2|x\n', "runs over several lines"),
        ("dev.csv", MEINEDGS.replace("|", " "), "line 1: no column video_name"),
        ("dev.csv", MEINEDGS, "no rows in it"),
        ("dev.csv", "", "line 1: no column"),
        ("sentences.csv", MEINEDGS + "a_1a1|1|1|2|0.1|0.2|x\n", "which split is it?"),
    ],
)
def test_a_broken_split_file_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    result = run("meinedgs", [write(tmp_path / name, content)], tmp_path / "m.parquet")
    assert result.exit_code == 3, result.output
    assert message in result.stderr and name in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "m.parquet").exists()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "dev.csv", MEINEDGS, "a_1a1|1|1|2|0.1|0.2|x\n")
    twice = run("meinedgs", [file, write(tmp_path / "my_val.csv", file.read_text())], tmp_path / "m.parquet")
    assert twice.exit_code == 3 and "the split dev, which" in twice.stderr
    other = run("phoenix14t", [file], tmp_path / "m.parquet")
    assert other.exit_code == 2 and "there are split files of how2sign and meinedgs" in other.stderr
    rootless = run("meinedgs", [], tmp_path / "m.parquet")
    assert rootless.exit_code == 2 and "Missing argument 'ROOT'" in rootless.stderr
