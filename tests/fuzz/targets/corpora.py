"""Corpora as they are published, captions, and people's own tables."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signet_train.data.datasets import DATASETS, reader
from signet_train.data.datasets.captions import read_captions
from signet_train.data.datasets.split_files import read_split_files
from signet_train.data.manifest import write_manifest
from tests.fuzz.mutations import edit_bytes, edit_json, edit_lines
from tests.fuzz.target import Target, as_file, scratch
from tests.fuzz.targets.keypoints import _edit_pickle

_SHARE = 60  # inputs of the slice: each of them is a folder of files

_EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///BF2c.mp4" TIME_ORIGIN="40"/></HEADER><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="40"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2000"/></TIME_ORDER>
<TIER TIER_ID="{0}" PARTICIPANT="A"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1"
TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>Hello there</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3"><ANNOTATION_VALUE>x
</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="{1}" PARENT_REF="{0}"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
<ANNOTATION_VALUE>SIGN</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""
_VTT = (
    "WEBVTT\n\nNOTE x\n\n1\n00:00:01.000 --> 00:00:03.500 align:start\n<i>Hello</i> &amp; <00:00:02.000><c>you</c>\n\n"
    "00:01:00.000 --> 00:01:02.000\nA sentence.\n"
)
_SRT = "1\n00:00:01,000 --> 00:00:03,500\n{\\an8}Hello &#233;\\Nyou\n\n2\n00:01:00,000 --> 01:01:02,000\nA sentence.\n"


def _corpus(dataset: str, files: dict[str, bytes | None], *, more: dict[str, Any] | None = None) -> Target:
    """Make a target of a corpus' reader: its files as they are published, of which one, None, is the input.

    ``files`` with content are there as they stand; those with None get the input.
    """

    def parse(data: bytes) -> None:
        root = scratch() / "corpus"
        shutil.rmtree(root, ignore_errors=True)
        for name, content in files.items():
            as_file(data if content is None else content, f"corpus/{name}")
        rows = reader(dataset)(root, **(more or {}))
        write_manifest(scratch() / "rows.jsonl", rows)
        write_manifest(scratch() / "rows.parquet", rows)

    assert dataset in DATASETS
    seeds = functools.cache(lambda: _SEEDS[dataset])
    return Target(f"corpus-{dataset}", parse, seeds, _EDITS.get(dataset), share=_SHARE)


def _table(delimiter: str, *rows: tuple[str, ...], quoted: bool = False) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_NONE, quotechar='"')
    writer.writerows(rows)
    return text.getvalue().encode()


_LABELS = {
    f"{name}.mp4": {"name": name, "gloss": ["A", "B"], "text": "Guten Tag", "video_path": f"{name}.mp4"}
    for name in "ab"
}
_CSL = {
    "info": [
        {"name": name, "signer": 1, "label_gloss": ["A"], "label_char": ["你", "好"]}
        for name in ("S1_P1_T0", "S2_P1_T0")
    ]
}
_HOW2SIGN = ("VIDEO_NAME", "SENTENCE_NAME", "START_REALIGNED", "END_REALIGNED", "SENTENCE")
_SEEDS: dict[str, list[bytes]] = {
    "phoenix14t": [
        _table("|", ("name", "video", "start", "end", "speaker", "orth", "translation"), *_lines)
        for _lines in [
            [("a", "a/1/*.png", "-1", "-1", "S1", "A B", "guten tag"), ("b", "b", "-1", "-1", "S2", "C", "x")]
        ]
    ],
    "openasl": [
        b"vid\tyid\tstart\tend\traw-text\ttokenized-text\tgloss\tsplit\n"
        b'v-1\ty\t00:00:05.333\t00:00:07.000\t"Hi ""you"""\thi\t\ttrain\n'
        b"v-2\tz\t0:00:05\t01:00:07.5\tHi\thi\tHI\tvalid\n"
    ],
    "meinedgs": [_EAF.format("Deutsche_Übersetzung_A", "Lexem_Gebärde_r_A").encode()],
    "bsl-corpus": [_EAF.format("Free Translation", "RH-IDgloss").encode()],
    "bobsl": [_VTT.encode()],
    "csl-news": [json.dumps([{"video": "n_20200101.mp4", "pose": "p/n.pkl", "text": "你好"}]).encode()],
    "wlasl100": [
        json.dumps(
            [
                {"gloss": f"g{i}", "instances": [{"video_id": f"{i}", "split": "val", "signer_id": i}]}
                for i in range(100)
            ]
        ).encode()
    ],
    "csl-daily": [pickle.dumps(_CSL, protocol) for protocol in (2, 4)],
    "how2sign": [gzip.compress(pickle.dumps(_LABELS)), pickle.dumps(_LABELS, 0)],
    "youtube-asl": [_VTT.encode(), _VTT.replace("1\n", "").encode("utf-16")],
    "videos": [
        b"file_name,text,signer,split,start,end,gloss\na.mp4,Hello,A,train,0.5,2,\nb.mp4,Bye,B,dev,,,BYE\n",
        "file_name;Satz\na.mp4;Grüße\nb.mp4;Tschüß\n".encode("cp1252"),
    ],
}
_EDITS = {"csl-news": edit_json, "wlasl100": edit_json, "csl-daily": _edit_pickle, "how2sign": _edit_pickle}
_EDITS |= {"phoenix14t": edit_lines(edit_bytes), "openasl": edit_lines(edit_bytes), "videos": edit_lines(edit_bytes)}


def _captions(suffix: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        for cue in read_captions(as_file(data, f"c{suffix}")):
            f"{1000 * cue.start:.0f} {cue.text}".encode()

    return parse


def _split_file(dataset: str) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        write_manifest(scratch() / "rows.jsonl", read_split_files(dataset, [as_file(data, "train.csv")], Path("/v")))

    return parse


def _split_seeds() -> list[bytes]:
    return [
        _table("\t", _HOW2SIGN, ("v", "s-5-rgb_front", "0.5", "2.25", "Hello"), quoted=True),
        _table(
            "|",
            ("video_name", "index", "start_frame", "end_frame", "start_sec", "end_sec", "target"),
            ("123_A", "1", "0", "9", "0.0", "0.36", "Hallo"),
            quoted=True,
        ),
    ]


_PHOENIX_FILES = "annotations/manual/PHOENIX-2014-T.{}.corpus.csv"
_SPLIT_1 = b"name|split\nS1_P1_T0|train\nS2_P1_T0|dev\n"
_EPISODES = b'{"train": ["1", "2"], "val": [], "test": ["3"]}'

TARGETS = (
    _corpus(
        "phoenix14t",
        {_PHOENIX_FILES.format("train"): None, _PHOENIX_FILES.format("dev"): _SEEDS["phoenix14t"][0]}
        | {_PHOENIX_FILES.format("test"): _SEEDS["phoenix14t"][0]},
    ),
    _corpus("openasl", {"openasl-v1.0.tsv": None}),
    _corpus("meinedgs", {"eaf/1413703.eaf": None}),
    _corpus("bsl-corpus", {"Conversation/BF02M25WDC.eaf": None}),
    _corpus(
        "bobsl",
        {"subset2episode.json": _EPISODES, "subtitles/manually-aligned/3.vtt": None}
        | {"subtitles/audio-aligned-heuristic-correction/1.vtt": _VTT.encode()},
    ),
    _corpus("csl-news", {"CSL_News_Labels.json": None}),
    _corpus("wlasl100", {"WLASL_v0.3.json": None}),
    _corpus("csl-daily", {"sentence_label/csl2020ct_v2.pkl": None, "sentence_label/split_1.txt": _SPLIT_1}),
    _corpus("how2sign", {"labels.train": None, "labels.test": gzip.compress(pickle.dumps(_LABELS))}),
    _corpus("youtube-asl", {"youtube_asl_video_ids.txt": b"abcdefghijk\n", "videos/abcdefghijk.en.vtt": None}),
    _corpus(
        "videos",
        {"metadata.csv": None, "a.mp4": b"", "b.mp4": b""},
        more={"language": "de", "sign_language": "gsg", "columns": {}, "encoding": None},
    ),
    Target("captions-vtt", _captions(".vtt"), lambda: [_VTT.encode()], edit_lines(edit_bytes), share=_SHARE),
    Target(
        "captions-srt",
        _captions(".srt"),
        lambda: [_SRT.encode(), _SRT.encode("utf-16")],
        edit_lines(edit_bytes),
        share=_SHARE,
    ),
    Target(
        "split-file-how2sign", _split_file("how2sign"), lambda: _split_seeds()[:1], edit_lines(edit_bytes), share=_SHARE
    ),
    Target(
        "split-file-meinedgs", _split_file("meinedgs"), lambda: _split_seeds()[1:], edit_lines(edit_bytes), share=_SHARE
    ),
)
