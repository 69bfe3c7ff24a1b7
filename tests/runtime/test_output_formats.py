"""What is written is what others read: by parsers that are not ours, with texts that nobody foresaw."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import pympi
import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import TinyBundle, random_poses
from translate_command import Translate

import signet_runtime.outputs
from signet_runtime.errors import InputError, OutputError
from signet_runtime.outputs.formats import FORMATS, SUFFIXES
from signet_runtime.outputs.json_lines import error_to_json, to_json
from signet_runtime.outputs.results import Results, names_of_outputs
from signet_runtime.outputs.words import words
from signet_runtime.pose.files import write_keypoints
from signet_runtime.translation import Alternative, Piece, Translation

SCHEMA = json.loads((Path(signet_runtime.outputs.__file__).parent / "translation.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# Control characters too: what a model writes is made of pieces, and some pieces are bytes.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
SECONDS = st.floats(0, 5e5, allow_nan=False).map(lambda seconds: round(seconds, 3))


@st.composite
def translations(draw: st.DrawFn) -> list[Translation]:
    """Sentences of one input, in order."""
    found, at = [], 0.0
    for _ in range(draw(st.integers(0, 5))):
        start = at + draw(st.floats(0, 100))
        at = start + draw(st.floats(0.05, 20))
        cuts = st.floats(start, at)
        spans = [sorted((draw(cuts), draw(cuts))) for _ in range(draw(st.integers(0, 3)))]
        pieces = tuple(Piece(" " + draw(TEXTS), -0.5, *span) for span in spans)
        found.append(
            Translation(
                text="".join(piece.text for piece in pieces).strip() or draw(TEXTS),
                start=start,
                end=at,
                language="mul",
                routing={"ase": 0.7, "gsg": 0.3, "csl": 0.0},
                pose_source="mediapipe",
                frames=draw(st.integers(1, 256)),
                timings={"encoder": 0.1},
                log_prob=-draw(st.floats(0, 20)),
                reliability=draw(st.none() | st.floats(0, 1)),
                pieces=pieces,
                alternatives=(Alternative(draw(TEXTS), -1.0),),
            )
        )
    return found


def written(form: str, said: list[Translation], source: str = "clip.mp4") -> str:
    """The whole output of one input."""
    to = io.StringIO()
    results = Results(form, to)
    for translation in said:
        results.add(source, translation)
    results.end()
    return to.getvalue()


def shown(text: str) -> str:
    return " ".join(text.split()).replace("-->", "->")


@settings(max_examples=60, deadline=None)
@given(translations())
def test_srt_by_another_parser(said: list[Translation]) -> None:
    cues = list(srt.parse(written("srt", said)))
    expected = [t for t in said if shown(t.text)]
    assert [" ".join(cue.content.split()) for cue in cues] == [" ".join(shown(t.text).split()) for t in expected]
    for cue, translation in zip(cues, expected, strict=True):
        assert cue.start.total_seconds() == pytest.approx(translation.start, abs=1e-3)
        assert cue.end.total_seconds() == pytest.approx(translation.end, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(translations())
def test_vtt_by_another_parser(said: list[Translation]) -> None:
    text = written("vtt", said)
    if not text:
        return
    cues = webvtt.from_string(text).captions if hasattr(webvtt, "from_string") else webvtt.WebVTT.from_string(text)
    expected = [t for t in said if shown(t.text)]
    assert len(list(cues)) == len(expected)
    for cue, translation in zip(cues, expected, strict=True):
        assert cue.start_in_seconds == pytest.approx(translation.start, abs=1.001)
        inside = [part.split(">")[0] for part in cue.raw_text.split("<")[1:]]
        times = [sum(float(n) * 60**i for i, n in enumerate(reversed(stamp.split(":")))) for stamp in inside]
        assert times == sorted(times)
        assert all(translation.start - 1e-3 < time < translation.end + 1e-3 for time in times)


@settings(max_examples=60, deadline=None)
@given(translations())
def test_eaf_by_another_parser(said: list[Translation]) -> None:
    text = written("eaf", said)
    assert bool(text) == bool(said)
    if not said:
        return
    document = _read_eaf(text)
    assert set(document.get_tier_names()) >= {"text", "confidence", "expert"}
    for tier in document.get_tier_names():
        spans = sorted(document.get_annotation_data_for_tier(tier))
        assert all(start < end for start, end, *_ in spans)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    texts = sorted(document.get_annotation_data_for_tier("text"))
    assert len(texts) == len(said)
    for (start, end, _), translation in zip(texts, said, strict=True):
        assert (start, end) == (
            pytest.approx(1000 * translation.start, abs=2),
            pytest.approx(1000 * translation.end, abs=2),
        )
    experts = [value for *_, value in document.get_annotation_data_for_tier("expert")]
    assert set(experts) == {"ase 0.70 gsg 0.30"}


def _read_eaf(text: str) -> pympi.Elan.Eaf:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".eaf", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return pympi.Elan.Eaf(file.name)


@settings(max_examples=60, deadline=None)
@given(translations())
def test_tsv_by_another_parser(said: list[Translation]) -> None:
    rows = list(csv.DictReader(io.StringIO(written("tsv", said)), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["text"] for row in rows] == [" ".join(t.text.split()) for t in said]
    assert [float(row["start"]) for row in rows] == pytest.approx([t.start for t in said], abs=1e-3)
    assert all(row["expert"] == "ase" and None not in row for row in rows)


@settings(max_examples=60, deadline=None)
@given(translations())
def test_json_is_of_its_schema(said: list[Translation]) -> None:
    assert written("json", said) == written("jsonl", said)
    for line in written("json", said).split("\n")[:-1]:
        VALIDATOR.validate(json.loads(line))


def test_the_schema_is_of_every_field_and_of_no_other() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    sentence = SCHEMA["$defs"]["sentence"]
    assert set(sentence["properties"]) == {"input", *(field.name for field in fields(Translation))}
    assert set(sentence["required"]) == set(sentence["properties"])
    for kind, name in ((Piece, "pieces"), (Alternative, "alternatives")):
        assert set(sentence["properties"][name]["items"]["properties"]) == {field.name for field in fields(kind)}
    jsonschema.validate(json.loads(error_to_json("a.mp4", "no such file")), SCHEMA)
    wrong = json.loads(to_json("a.mp4", replace(_one(), frames=0)))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def _one() -> Translation:
    return Translation("x", 0.0, 1.0, "en", {}, "mediapipe", 1, {}, log_prob=-0.1)


def test_what_the_command_writes_is_of_the_schema(translate: Translate, clips: list[Path], tmp_path: Path) -> None:
    result = translate(*clips, tmp_path / "none.mp4", "--format", "json", "--n-best", 3, "--piece-times")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 4
    for line in lines:
        jsonschema.validate(line, SCHEMA)
    assert all(len(line["alternatives"]) == 2 and line["pieces"][0]["start"] is not None for line in lines[:3])


def test_words_of_pieces() -> None:
    pieces = [Piece(" ", -1, 0, 9), Piece("ge", -1, 1.0, 2.0), Piece("hen", -1, 1.5, 3.0), Piece(" ja", -1, 0.5, 0.7)]
    assert [tuple(word) for word in words(pieces)] == [("gehen", 1.0, 3.0), ("ja", 0.5, 0.7)]
    assert words([Piece("ohne", -1)]) == []


# --- A file an input ---


@pytest.mark.parametrize("form", list(FORMATS))
def test_a_directory_has_a_file_for_every_input(
    translate: Translate, clips: list[Path], tmp_path: Path, form: str
) -> None:
    to = tmp_path / "new" / "out"
    result = translate(*clips, tmp_path / "none.mp4", "--format", form, "--output-dir", to)
    assert (result.exit_code, result.stdout) == (3, "")
    suffix = SUFFIXES.get(form, f".{form}")
    names = {f"{clip.stem}{suffix}" for clip in clips}
    assert {file.name for file in to.iterdir()} - {f"none{suffix}"} == names
    for clip in clips:
        alone = translate(clip, "--format", form).stdout
        found = (to / f"{clip.stem}{suffix}").read_text()
        if form in ("text", "srt", "vtt", "tsv"):
            assert found == alone


@given(
    st.lists(
        st.tuples(st.sampled_from("aAb"), st.sampled_from("xXy"), st.sampled_from([".mp4", ".mov", ".npz"])),
        unique=True,
        min_size=1,
    )
)
def test_no_two_inputs_have_one_file(parts: list[tuple[str, str, str]]) -> None:
    inputs = [Path("/videos", folder, name + suffix) for folder, name, suffix in parts]
    names = names_of_outputs(inputs, Path("/nowhere/out"), "srt")
    assert len({str(name).casefold() for name in names.values()}) >= len({str(path).casefold() for path in inputs})
    assert all(name.is_relative_to("/nowhere/out") and name.suffix == ".srt" for name in names.values())
    alone = [p for p in inputs if [q.stem.casefold() for q in inputs].count(p.stem.casefold()) == 1]
    assert all(names[path] == Path("/nowhere/out", f"{path.stem}.srt") for path in alone)


def test_500_inputs_of_one_name() -> None:
    inputs = [Path(f"/videos/{i:03}/clip.mp4") for i in range(500)]
    names = names_of_outputs(inputs, Path("/nowhere/out"), "eaf")
    assert names[inputs[7]] == Path("/nowhere/out/007/clip.eaf")
    assert len(set(names.values())) == 500


def test_directories_that_cannot_be(translate: Translate, clips: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = translate(*clips, "--output-dir", tmp_path / "file")
    assert result.exit_code == 3
    assert f"{tmp_path / 'file'}: is a file; --output-dir takes a directory" in result.stderr
    with pytest.raises(OutputError, match="is given twice"):
        names_of_outputs([clips[0], clips[0]], tmp_path / "out", "text")
    (tmp_path / "x.txt").touch()
    with pytest.raises(OutputError, match="would overwrite this input"):
        names_of_outputs([tmp_path / "x.txt", clips[0]], tmp_path, "text")


def test_a_directory_that_is_full_stops_one_file_alone(
    translate: Translate, clips: list[Path], tmp_path: Path, texts: list[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1.txt").mkdir()  # in the way of the second one
    result = translate(*clips, "--output-dir", tmp_path / "out")
    assert result.exit_code == 3
    assert (tmp_path / "out" / "0.txt").read_text() == texts[0] + "\n"
    assert (tmp_path / "out" / "2.txt").read_text() == texts[2] + "\n"


def test_an_input_that_failed_in_a_table() -> None:
    to = io.StringIO()
    results = Results("tsv", to)
    results.fail("a\tb.mp4", InputError("no\nway"), alone=False)
    assert to.getvalue().splitlines()[1] == "a b.mp4" + "\t" * 8 + "no way"


def test_keypoints_beside_an_output(translate: Translate, tiny: TinyBundle, tmp_path: Path) -> None:
    write_keypoints(tmp_path / "a.npz", random_poses(5))
    result = translate(tmp_path / "a.npz", "-o", tmp_path / "b.npz", "--keypoints-out", tmp_path / "b.npz")
    assert result.exit_code == 2
    assert "is given for two things" in result.stderr
