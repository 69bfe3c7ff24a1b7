"""`POST /v1/translate`: what is answered, in which form, and how it compares with `Translator`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tiny_bundle import NOTICE, TinyBundle

from signet_runtime.translator import Translator

Serve = Callable[..., TestClient]


def send(client: TestClient, path: Path, query: str = "", name: str | None = None, **options: Any) -> Any:
    with path.open("rb") as file:
        return client.post(f"/v1/translate{query}", files={"file": (name or path.name, file)}, **options)


def test_the_models_are_those_that_are_here(serve: Serve) -> None:
    models = serve().get("/v1/models").json()["models"]
    assert [(model["name"], model["default"]) for model in models] == [("bundle", True), ("demo", False)]
    assert models[0]["about"] == NOTICE
    assert models[0]["frame_rate"] == 25.0


def test_keypoints_say_what_they_say_to_a_translator(serve: Serve, tiny: TinyBundle, keypoints: Path) -> None:
    expected = list(Translator(tiny.path).sentences(keypoints, whole=128))
    answer = send(serve(), keypoints)
    assert answer.status_code == 200
    (sentence,) = answer.json()["sentences"]
    assert sentence["text"] == expected[0].text != ""
    assert (sentence["start"], sentence["end"]) == (expected[0].start, expected[0].end)
    assert sentence["routing"] == pytest.approx(expected[0].routing)


def test_a_video_is_told_frame_by_frame(serve: Serve, write_video: Callable[..., Path]) -> None:
    video = write_video("video.mp4", frames=30)
    client = serve()
    answer = send(client, video, "?format=ndjson")
    events = [json.loads(line) for line in answer.text.splitlines()]
    kinds = [event["type"] for event in events]
    assert events[0] == {"type": "ready", "model": "bundle", "frame_rate": 25.0, "size": [96, 64]}
    assert kinds[-1] == "end"
    poses = [event for event in events if event["type"] == "pose"]
    assert [pose["time"] for pose in poses] == pytest.approx([i / 25 for i in range(30)])
    assert all(len(pose["keypoints"]) == len(pose["scores"]) == 133 for pose in poses)
    (sentence,) = [event for event in events if event["type"] == "sentence"]
    assert sentence["text"] == send(client, video).json()["sentences"][0]["text"]


@pytest.mark.parametrize("form", ["srt", "vtt", "eaf", "text", "tsv"])
def test_every_format_is_signet_translates(serve: Serve, tiny: TinyBundle, keypoints: Path, form: str) -> None:
    from signet_runtime.outputs.formats import FORMATS

    written = FORMATS[form]()
    pieces = [written.add("poses.npz", s) for s in Translator(tiny.path).sentences(keypoints, whole=128)]
    expected = "".join(piece for piece in (*pieces, written.end()) if piece)
    answer = send(serve(), keypoints, f"?format={form}")
    assert answer.status_code == 200
    if form == "eaf":
        assert expected.count("<ANNOTATION>") == answer.text.count("<ANNOTATION>") > 0
        assert str(Path.cwd()) not in answer.text
    else:
        assert answer.text == expected
    assert answer.headers["content-disposition"].startswith('attachment; filename="poses.')


def test_accept_chooses_the_format(serve: Serve, keypoints: Path) -> None:
    client = serve()
    assert send(client, keypoints, headers={"Accept": "text/vtt;q=0.9, */*"}).text.startswith("WEBVTT")
    assert send(client, keypoints, headers={"Accept": "*/*"}).headers["content-type"] == "application/json"
    assert send(client, keypoints, "?format=docx").json()["error"]["code"] == "no_such_format"


def test_what_is_no_recording_is_said_by_the_status(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    path = tmp_path / "no video.mp4"
    path.write_bytes(b"hello, world" * 1000)
    for query in ("", "?format=ndjson"):
        answer = send(client, path, query)
        assert answer.status_code == 415
        message = answer.json()["error"]["message"]
        assert message.startswith("no video.mp4: ") and str(tmp_path) not in message and "upload" not in message
    assert client.post("/v1/translate", json={}).json()["error"]["code"] == "no_form"
    assert client.post("/v1/translate", files={"other": b"x"}).json()["error"]["code"] == "no_file"
    assert send(client, path, "?model=nothing").status_code == 404


def test_the_description_needs_nothing_from_elsewhere(serve: Serve) -> None:
    client = serve()
    page = client.get("/docs").text
    description = client.get("/openapi.json").json()
    assert all(f"{path}</code>" in page for path in description["paths"]) and len(description["paths"]) == 6
    linked = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert sorted(linked) == ["docs.css", "openapi.json"]
    assert "<script" not in page and "style=" not in page
    assert all(client.get(f"/{link}").status_code == 200 for link in linked)
