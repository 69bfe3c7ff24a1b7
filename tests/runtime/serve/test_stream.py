"""`/v1/stream`: pictures and keypoints in, sentences out; and what a socket may send instead."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from signer import SIZE, perform
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tiny_bundle import TinyBundle

from signet_runtime.sentences.keypoints import PoseStream
from signet_runtime.translator import Translator

Serve = Callable[..., TestClient]
URL = "ws://localhost/v1/stream"
START = {"type": "start", "source": "keypoints", "size": list(SIZE), "partial": 60}
SCRIPT = [("rest", 0.6), ("sign", 1.2), ("rest", 1.0), ("sign", 1.0), ("rest", 1.0)]


def picture(brightness: int = 100, size: tuple[int, int] = (64, 48), form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (brightness,) * 3).save(buffer, form)
    return buffer.getvalue()


def events_of(socket: Any) -> Iterator[dict[str, Any]]:
    """Everything until the server closes."""
    try:
        while True:
            yield json.loads(socket.receive_text())
    except (WebSocketDisconnect, KeyError):
        return


def test_keypoints_become_the_sentences_that_a_translator_finds(serve: Serve, tiny: TinyBundle) -> None:
    frames = list(perform(SCRIPT))
    expected = Translator(tiny.path).sentences(PoseStream(iter(frames), 25.0, SIZE, "mediapipe"))
    texts = [sentence.text for sentence in expected]
    assert len(texts) == 2
    with serve().websocket_connect(URL) as socket:
        socket.send_json(START)
        for frame in frames:
            message = {"type": "keypoints", "time": frame.seconds, "keypoints": frame.keypoints.tolist()}
            socket.send_json({**message, "scores": frame.scores.tolist()})
        socket.send_json({"type": "end"})
        events = list(events_of(socket))
    assert events[0] == {"type": "ready", "model": "bundle", "frame_rate": 25.0}
    assert events[-1] == {"type": "end"}
    assert [event["text"] for event in events if event["type"] == "sentence"] == texts
    assert [event["time"] for event in events if event["type"] == "pose"] == pytest.approx(
        [frame.seconds for frame in frames], abs=1e-3
    )


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_pictures_are_posed(serve: Serve, form: str) -> None:
    with serve().websocket_connect(URL) as socket:
        socket.send_json({"type": "start", "source": "frames"})
        assert json.loads(socket.receive_text())["type"] == "ready"
        seen = []
        for index in range(20):
            socket.send_bytes(struct.pack("<d", index / 25) + picture(form=form))
            while (event := json.loads(socket.receive_text()))["type"] != "pose":
                pass
            seen.append(event["time"])
        socket.send_json({"type": "end"})
        rest = list(events_of(socket))
    assert seen == pytest.approx([index / 25 for index in range(20)])
    assert [event["type"] for event in rest if event["type"] in ("sentence", "end")] == ["sentence", "end"]


def refused(client: TestClient, *messages: str | bytes | dict[str, Any]) -> dict[str, Any]:
    """What the server says in the end of these messages."""
    with client.websocket_connect(URL) as socket:
        for message in messages:
            if isinstance(message, bytes):
                socket.send_bytes(message)
            else:
                socket.send_text(message if isinstance(message, str) else json.dumps(message))
        *_, last = events_of(socket)
    return last


FRAMES = {"type": "start", "source": "frames"}
KEYPOINTS = {"type": "keypoints", "time": 0.0, "keypoints": [[0.5, 0.5]] * 133, "scores": [1.0] * 133}


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["hello"], "bad_message"),
        (["[" * 60_000], "bad_message"),
        (['{"type": "start", "source": "frames", "token": ' + '"' * 70_000], "too_large"),
        ([b"\x00\xff" * 100], "bad_message"),
        ([{"type": "start", "source": "camera"}], "bad_message"),
        ([{"type": "start", "source": "keypoints"}], "no_size"),
        ([FRAMES, b"1234567"], "bad_message"),
        ([FRAMES, struct.pack("<d", 0) + b"no picture"], "bad_picture"),
        ([FRAMES, struct.pack("<d", 0) + picture()[:300]], "bad_picture"),
        ([FRAMES, struct.pack("<d", float("nan")) + picture()], "bad_time"),
        ([FRAMES, struct.pack("<d", 1e9) + picture()], "bad_time"),
        ([FRAMES, struct.pack("<d", 1) + picture(), struct.pack("<d", 0.5) + picture()], "bad_time"),
        ([FRAMES, struct.pack("<d", 0) + picture(), struct.pack("<d", 1) + picture(size=(48, 64))], "size_changed"),
        ([FRAMES, struct.pack("<d", 0) + picture(size=(3000, 3000))], "too_large"),
        ([FRAMES, KEYPOINTS], "bad_message"),
        ([START, struct.pack("<d", 0) + picture()], "bad_message"),
        ([START, {**KEYPOINTS, "scores": [1.0] * 132}], "bad_message"),
        ([START, {**KEYPOINTS, "keypoints": [[0.5, float("inf")]] * 133}], "bad_message"),
        ([START, {**KEYPOINTS, "keypoints": [[0.5, 1e30]] * 133}], "bad_message"),
        ([START, {**KEYPOINTS, "more": 1}], "bad_message"),
        ([FRAMES, {"type": "end"}], "empty"),
    ],
)
def test_garbage_is_refused_in_a_line(serve: Serve, messages: list[Any], code: str) -> None:
    client = serve()
    last = refused(client, *messages)
    assert (last["type"], last["code"]) == ("error", code)
    assert last["message"] and "\n" not in last["message"] and len(last["message"]) < 400
    assert client.get("/healthz").status_code == 200


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(
        st.one_of(
            st.text(max_size=50),
            st.binary(max_size=200),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            ).map(lambda value: {"type": "keypoints", "time": value}),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_garbage_ends_in_an_error(garbage_server: TestClient, messages: list[Any]) -> None:
    assert refused(garbage_server, FRAMES, *messages)["type"] == "error"


@pytest.fixture
def garbage_server(serve: Serve) -> TestClient:
    return serve()


def test_a_silent_stream_is_ended_and_its_lane_free_again(serve: Serve) -> None:
    client = serve(at_once=1, silence=0.5)
    for _ in range(2):
        last = refused(client, START, KEYPOINTS)
        assert last["code"] == "stalled"


def test_a_stream_may_not_last_for_ever(serve: Serve) -> None:
    client = serve(length=2.0)
    times = np.arange(0, 4, 0.5)
    last = refused(client, START, *({**KEYPOINTS, "time": float(time)} for time in times))
    assert last["code"] == "too_long"


def test_no_place_is_said(serve: Serve) -> None:
    client = serve(at_once=1, waiting=0)
    with client.websocket_connect(URL) as first:
        first.send_json(FRAMES)
        assert json.loads(first.receive_text())["type"] == "ready"
        last = refused(client, FRAMES)
        assert last["code"] == "busy" and last["retry_after"] >= 1
        first.send_json({"type": "end"})
        assert [event["code"] for event in events_of(first)] == ["empty"]


def test_the_token_may_be_in_the_first_message(serve: Serve) -> None:
    client = serve(token="0123456789abcdef")
    assert refused(client, FRAMES)["code"] == "unauthorised"
    assert refused(client, {**FRAMES, "token": "0123456789abcdeg"})["code"] == "unauthorised"
    assert refused(client, {**FRAMES, "token": "0123456789abcdef"}, {"type": "end"})["code"] == "empty"
