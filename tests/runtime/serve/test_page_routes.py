"""What the page asks besides translations: the skeleton, and sentences as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from signet_runtime import Translator
from signet_runtime.outputs.formats import FORMATS
from signet_runtime.overlay.drawing import COLOURS
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import NUM_KEYPOINTS, REGIONS, USED_JOINTS
from signet_runtime.translation import Translation


@pytest.fixture
def said(tiny: Any, keypoints: Any) -> list[Translation]:
    with Translator(tiny.path) as translator:
        return list(translator.sentences(keypoints))


def test_the_skeleton_is_that_of_the_model(serve: Any) -> None:
    regions = serve().get("/v1/skeleton").json()["regions"]
    assert list(regions) == list(REGIONS)
    assert sorted(joint for region in regions.values() for joint in region["joints"]) == sorted(USED_JOINTS)
    for name, region in regions.items():
        edges = {tuple(edge) for edge in region["edges"]}
        graph = {(REGIONS[name].joints[a], REGIONS[name].joints[b]) for a, b in REGIONS[name].edges}
        assert edges and edges <= graph and max(max(edge) for edge in edges) < NUM_KEYPOINTS
        assert region["colour"] == "#" + bytes(COLOURS[name]).hex()


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_a_file_of_sentences_is_that_of_the_command(serve: Any, said: list[Translation], form: str) -> None:
    document = FORMATS[form]()
    pieces = [document.add("poses.npz", sentence) for sentence in said]
    expected = "".join(piece for piece in (*pieces, document.end()) if piece)
    body = {"input": "poses.npz", "sentences": [asdict(sentence) for sentence in said]}
    answer = serve().post("/v1/format", params={"format": form}, json=body)
    assert (answer.status_code, answer.text) == (200, expected)
    assert f"poses.{form}" in answer.headers["content-disposition"]


def test_all_that_was_said_comes_back_as_json(serve: Any, said: list[Translation]) -> None:
    sentences = json.loads(json.dumps([asdict(sentence) for sentence in said]))
    body = {"input": "../../a.mp4", "model": "m", "notes": ["n"], "sentences": sentences}
    answer = serve().post("/v1/format", params={"format": "json"}, json=body).json()
    assert answer == {**body, "input": "a.mp4", "sentences": [{"input": "a.mp4", **each} for each in sentences]}


def test_a_document_for_elan_tells_nothing_of_this_machine(serve: Any, said: list[Translation]) -> None:
    body = {"input": "a.mp4", "sentences": [asdict(sentence) for sentence in said]}
    text = serve().post("/v1/format", params={"format": "eaf"}, json=body).text
    assert "recordings/a.mp4" in text and said[0].text.strip() in text


@pytest.mark.parametrize("form", ["json", "srt", "vtt", "eaf"])
@pytest.mark.parametrize("field", ["start", "end", "log_prob", "piece"])
def test_impossible_figures_are_refused(serve: Any, said: list[Translation], form: str, field: str) -> None:
    whole = json.dumps(asdict(said[0]) | {"pieces": [{"text": "a", "log_prob": -1.0, "start": 0.0, "end": 1.0}]})
    for figure in ("1e308", "1e999", "NaN", "-Infinity", "-1e300" if field != "log_prob" else "5", '"soon"'):
        sentence = json.loads(whole)
        (sentence["pieces"][0] if field == "piece" else sentence)["start" if field == "piece" else field] = "FIGURE"
        body = json.dumps({"input": "a", "sentences": [sentence]}).replace('"FIGURE"', figure)
        answer = serve().post(f"/v1/format?format={form}", content=body)
        assert answer.status_code == 400 and "sentences.0" in answer.json()["error"]["message"], (figure, answer.text)


def test_what_is_no_body_is_refused(serve: Any) -> None:
    rng = np.random.default_rng()
    client = serve()
    for body in (
        b"",
        b"[" * 200_000,
        b'{"input":' * 50_000,
        b"{}",
        b'{"input": "a", "sentences": [{}]}',
        rng.bytes(500),
    ):
        answer = client.post("/v1/format?format=srt", content=body)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid", body[:20]
    assert client.post("/v1/format?format=srt", content=b" " * 8_000_001).status_code == 413
    assert client.post("/v1/format?format=exe", content=b"{}").status_code == 400


def test_a_pose_is_of_as_many_keypoints_as_the_page_expects(serve: Any) -> None:
    """The page copies poses joint by joint, and has the number written down."""
    script = serve().get("/skeleton.js").text
    assert f"const KEYPOINTS = {NUM_KEYPOINTS};" in script
    example = serve().get("/idle.json").json()
    poses = PoseSequence(
        np.array([pose["keypoints"] for pose in example["poses"]], np.float32),
        np.array([pose["scores"] for pose in example["poses"]], np.float32),
        fps=6.25, size=(640, 640), source="the page",
    )  # fmt: skip
    assert poses.keypoints.shape[1:] == (NUM_KEYPOINTS, 2) and poses.keypoints.min() >= 0 and poses.keypoints.max() <= 1
