"""MeineDGS' translation protocols, or else its ELAN files, become rows."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from signet_runtime.errors import InputError
from signet_train.data.datasets import reader
from signet_train.data.manifest import Row

read = reader("meinedgs")

_HEADER = "filename|camera|ger_text|gloss|start_time|stop_time\n"
_LINES = {
    "Train": "1583882A-1|A|und dann gab es telegramme|HOREN/9/15 NUM-TEEN/21/41|718|951\n"
    "1290705-16340909-16360503B-32|B|ja stimmt|NAME//97/142 ICH/150/155|100|300\n",
    "Dev": "1583882A-11|A|ach ja stimmt|STIMMT/12/64|2301|2467\n",
    "Test": "1583882A-0|A|stimmt das gabs fruher nicht|STIMMT/20/29|413|718\n",
}


def protocols(root: Path, below: str = "mDGS") -> Path:
    (root / below).mkdir(parents=True)
    for split, lines in _LINES.items():
        (root / below / f"mDGS_Protocol_{split}.csv").write_text(_HEADER + lines, encoding="utf-8")
    return root / below


@pytest.mark.parametrize("below", ["mDGS", "meineDGS-Translation-Protocols/mDGS"])
def test_rows_of_the_protocols(tmp_path: Path, below: str, passes_check: Callable[[Iterable[Row]], None]) -> None:
    protocols(tmp_path, below)
    rows = read(tmp_path)
    assert [row.split for row in rows] == ["train", "train", "dev", "test"]
    assert rows[0] == Row(
        id="1583882A-1",
        split="train",
        poses="poses/1583882A-1.npz",
        text="und dann gab es telegramme",
        language="de",
        sign_language="gsg",
        video=str(tmp_path / "videos/1583882/1583882_1a1.mp4"),
        start=14.36,
        end=19.02,
        gloss="HOREN NUM-TEEN",
    )
    name = "1290705-16340909-16360503"  # a part of a recording has the times of the part in its name
    assert rows[1].video == str(tmp_path / f"videos/{name}/{name}_1b1.mp4")
    assert rows[1].gloss == "NAME ICH"
    passes_check(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_HEADER + "1583882A-1|B|ja|JA/1/2|1|2\n", "line 2: '1583882A-1' is not a transcript"),
        (_HEADER + "1583882A-1|A|ja|JA/1/2|1|x\n", "line 2: start_time and stop_time are not frames"),
        (_HEADER + "1583882A-1|A|ja|JA/1/2|1\n", "line 2: 5 fields"),
        (_HEADER.replace("ger_text", "text"), "line 1: no column ger_text"),
    ],
)
def test_a_broken_protocol_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (protocols(tmp_path) / "mDGS_Protocol_Dev.csv").write_text(content)
    with pytest.raises(InputError, match=rf"mDGS_Protocol_Dev\.csv: {message}"):
        read(tmp_path)


_TIMES = [240, 500, 980, 1880, 3500, 3600, 5060]


def elan(*, tiers: str | None = None, prolog: str = "", times: str | None = None) -> str:
    def tier(name: str, participant: str, *annotations: tuple[str, int, int, str]) -> str:
        inner = "".join(
            f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{i}" TIME_SLOT_REF1="ts{s}" TIME_SLOT_REF2="ts{e}">'
            f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
            for i, s, e, value in annotations
        )
        return f'<TIER TIER_ID="{name}" LINGUISTIC_TYPE_REF="L" PARTICIPANT="{participant}">{inner}</TIER>'

    if tiers is None:
        tiers = (
            tier("Deutsche_Übersetzung_A", "ber-12", ("a1", 1, 5, "Ja, für &lt;immer&gt;! "), ("a2", 6, 7, " "))
            + tier("Lexem_Gebärde_r_A", "ber-12", ("a3", 1, 2, "ZEIT5A*"), ("a4", 4, 5, "$GEST-OFF^*"))
            + '<TIER TIER_ID="Gebärde_r_A" PARENT_REF="Lexem_Gebärde_r_A" LINGUISTIC_TYPE_REF="L"><ANNOTATION>'
            '<REF_ANNOTATION ANNOTATION_ID="a9" ANNOTATION_REF="a3"><ANNOTATION_VALUE>ZEIT5</ANNOTATION_VALUE>'
            "</REF_ANNOTATION></ANNOTATION></TIER>"
            + tier("Lexem_Gebärde_l_A", "ber-12", ("a5", 3, 4, "AB1B^*"), ("a6", 6, 7, "AUSSEN1"))
            + tier("Translation_into_English_A", "ber-12", ("a7", 1, 5, "Yes, for ever!"))
            + tier(unicodedata.normalize("NFD", "Deutsche_Übersetzung_B"), "ber-13", ("a8", 6, 7, "Nein."))
        )
    if times is None:
        times = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{t}"/>' for i, t in enumerate(_TIMES, 1))
    return (
        f'{prolog}<ANNOTATION_DOCUMENT AUTHOR="meinedgs.de" FORMAT="3.0" VERSION="3.0">'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/><TIME_ORDER>{times}</TIME_ORDER>{tiers}'
        "</ANNOTATION_DOCUMENT>"
    )


def write(root: Path, *transcripts: str, content: str | None = None, below: str = "eaf") -> None:
    (root / below).mkdir(exist_ok=True)
    for transcript in transcripts:
        (root / below / f"{transcript}.eaf").write_text(content or elan(), encoding="utf-8")


@pytest.mark.parametrize("below", ["eaf", "."])
def test_rows_of_the_elan_files(tmp_path: Path, below: str) -> None:
    write(tmp_path, "1413703", below=below)
    rows = read(tmp_path)
    assert rows == [
        Row(
            id="1413703_a1",
            split="train",
            poses="poses/1413703_a1.npz",
            text="Ja, für <immer>!",
            language="de",
            sign_language="gsg",
            video=str(tmp_path / "videos/1413703/1413703_1a1.mp4"),
            start=0.24,
            end=3.5,
            signer="ber-12",
            gloss="ZEIT5A* AB1B^* $GEST-OFF^*",
        ),
        Row(
            id="1413703_a8",
            split="train",
            poses="poses/1413703_a8.npz",
            text="Nein.",
            language="de",
            sign_language="gsg",
            video=str(tmp_path / "videos/1413703/1413703_1b1.mp4"),
            start=3.6,
            end=5.06,
            signer="ber-13",
        ),
    ]


def test_videos_beside_each_other_are_found(tmp_path: Path) -> None:
    write(tmp_path, "1413703")
    (tmp_path / "1413703_1a1.mp4").touch()
    assert [row.video for row in read(tmp_path)] == [
        str(tmp_path / "1413703_1a1.mp4"),
        str(tmp_path / "videos/1413703/1413703_1b1.mp4"),
    ]


def test_the_protocols_go_before_the_elan_files(tmp_path: Path) -> None:
    write(tmp_path, "1413703")
    protocols(tmp_path)
    assert read(tmp_path)[0].id == "1583882A-1"
    shutil.rmtree(tmp_path / "mDGS")
    assert read(tmp_path)[0].id == "1413703_a1"


def test_the_published_document_split_is_taken_when_it_is_there(tmp_path: Path) -> None:
    write(tmp_path, "1", "2", "3", "1177918")
    split = {"dgs_corpus_version": "3.0.0", "train": ["1", "9"], "dev": ["3"], "test": ["2"]}
    path = tmp_path / "split.3.0.0-uzh-document.json"
    path.write_text(json.dumps(split))
    rows = read(tmp_path)
    assert [(row.id, row.split) for row in rows if row.id.endswith("a1")] == [
        ("1_a1", "train"),
        ("2_a1", "test"),
        ("3_a1", "dev"),
    ]
    path.write_text(json.dumps({"train": []}))
    with pytest.raises(InputError, match=r"uzh-document\.json: not lists of transcripts"):
        read(tmp_path)


def test_without_it_pairs_of_signers_are_split_whole_and_always_the_same(tmp_path: Path) -> None:
    for n in range(0, 330, 2):  # as many as the corpus has
        content = elan().replace("ber-12", f"ber-{n}").replace("ber-13", f"ber-{n + 1}")
        write(tmp_path, f"{n}-1-2", f"{n}-3-4", content=content)
    rows = read(tmp_path)
    pairs = defaultdict(set)
    for row in rows:
        pairs[row.id.split("-")[0]].add(row.split)
    assert all(len(splits) == 1 for splits in pairs.values())
    counts = Counter(row.split for row in rows)
    assert 0.01 < counts["dev"] / len(rows) < 0.1
    assert 0.01 < counts["test"] / len(rows) < 0.1
    assert read(tmp_path) == rows


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no mDGS \(translation protocols\) and no eaf/\*\.eaf there"):
        read(tmp_path)
    (protocols(tmp_path) / "mDGS_Protocol_Test.csv").unlink()
    with pytest.raises(InputError, match=r"no mDGS/mDGS_Protocol_Test\.csv there; .*BenSaunders27"):
        read(tmp_path)


_BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
_FETCH = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    "content",
    [
        elan()[:400],
        elan(times='<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1"/>'),
        elan(times="".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}"/>' for i in range(1, 8))),
        elan(tiers="<TIER/>"),
        "no xml",
        elan(prolog=_BOMB, tiers="<X>&b;</X>"),
        elan(prolog=_FETCH, tiers="<X>&a;</X>"),
        elan(prolog="<!DOCTYPE x>"),
    ],
    ids=["cut off", "no such time", "no time value", "tier without name", "no xml", "bomb", "fetch", "doctype"],
)
def test_a_broken_or_hostile_elan_file_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, "1413703", content=content)
    with pytest.raises(InputError, match=r"1413703\.eaf: not an ELAN file, or a damaged one \("):
        read(tmp_path)
