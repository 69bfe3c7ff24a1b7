"""What a server refuses, with which status and line; and that nothing of it stays (`serve` looks after every test)."""

from __future__ import annotations

import errno
import io
import itertools
import json
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from tiny_bundle import FakeEstimator, TinyBundle

from signet_runtime import translator as translator_module
from signet_runtime.serve.names import attachment, shown_name, suffix_of

Serve = Callable[..., TestClient]


def post(client: TestClient, content: bytes, name: str, query: str = "", **options: Any) -> Any:
    return client.post(f"/v1/translate{query}", files={"file": (name, io.BytesIO(content))}, **options)


def code(answer: Any) -> str:
    error = answer.json()["error"]
    assert error["message"] and "\n" not in error["message"] and "Traceback" not in error["message"]
    return str(error["code"])


def test_what_is_too_large_is_refused_by_its_head_and_while_it_comes(serve: Serve, keypoints: Path) -> None:
    client = serve(size=20_000, keypoints_size=10_000)
    stated = post(client, bytes(200_000), "large.mp4")
    assert (stated.status_code, code(stated)) == (413, "too_large")
    more = post(client, bytes(40_000), "large.mp4")  # within what is around the file in a form
    assert (more.status_code, code(more)) == (413, "too_large")
    of_keypoints = post(client, bytes(15_000), "large.npz")
    assert (of_keypoints.status_code, code(of_keypoints)) == (413, "too_large")
    field = client.post("/v1/translate", data={"other": "x" * 100_000}, files={"file": ("a.npz", b"abc")})
    assert field.status_code == 413


def slow(seconds: float) -> type[FakeEstimator]:
    class Slow(FakeEstimator):
        def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[Any]:
            for pose in super().estimate(frames):
                time.sleep(seconds)
                yield pose

    return Slow


def test_what_is_too_long_is_refused_early(
    serve: Serve, write_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video("long.mp4", frames=25 * 40).read_bytes()
    client = serve(length=10.0)
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: slow(0.01)())
    since = time.monotonic()
    answer = post(client, video, "long.mp4")
    assert (answer.status_code, code(answer)) == (413, "too_long")
    assert time.monotonic() - since < 5


def test_what_takes_too_long_is_ended(
    tiny: TinyBundle, serve: Serve, write_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video("video.mp4", frames=100).read_bytes()
    client = serve(time=0.5, at_once=1)
    # The estimator that was loaded at the start is the fast one; the lane forgets it with its model.
    service = client.app.state.service  # type: ignore[attr-defined]
    (loaded,) = service.shelf._loaded.values()
    service._forget(loaded)
    monkeypatch.setattr(translator_module, "load_estimator", lambda *args, **options: slow(0.05)())
    for _ in range(2):
        answer = post(client, video, "video.mp4")
        assert (answer.status_code, code(answer)) == (504, "out_of_time")


def test_who_waits_is_told_though_the_thread_is_stuck(
    serve: Serve, keypoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(time=0.3, at_once=1, waiting=1)
    stuck = threading.Event()
    monkeypatch.setattr(translator_module, "read_keypoints", lambda *args: stuck.wait(20))
    content = keypoints.read_bytes()
    for expected in ((504, "out_of_time"), (504, "out_of_time"), (503, "busy")):
        answer = post(client, content, "poses.npz")
        assert (answer.status_code, code(answer)) == expected
    stuck.set()
    monkeypatch.undo()
    for _ in range(100):
        if (answer := post(client, content, "poses.npz")).status_code == 200:
            break
        time.sleep(0.05)
    assert answer.status_code == 200


def test_many_at_once_are_answered_or_told_when_to_come(serve: Serve, keypoints: Path) -> None:
    client = serve(at_once=2, waiting=3)
    content = keypoints.read_bytes()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(client, content, "poses.npz"), range(20)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 5
    assert len({answer.json()["sentences"][0]["text"] for answer in answers if answer.status_code == 200}) == 1
    for answer in answers:
        if answer.status_code == 503:
            assert code(answer) == "busy" and int(answer.headers["retry-after"]) >= 1
    told = client.get("/metrics").text
    for status in (200, 503):
        count = statuses.count(status)
        line = f'signet_requests_total{{route="/v1/translate",status="{status}"}} {count}.0'
        assert not count or line in told


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd.npz", "..\\..\\x.npz", "a\x00b\x1b[31m.npz", "\u202egnp.npz", "/abs.npz", "x" * 5000, ".."],
)
def test_names_of_strangers_stay_names(serve: Serve, keypoints: Path, name: str) -> None:
    client = serve()
    content = keypoints.read_bytes()
    boundary = "xyz"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="'.encode()
        + name.encode("utf-8", "surrogatepass")
        + b'"\r\n\r\n'
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    head = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = client.post("/v1/translate?format=json", content=body, headers=head)
    told = answer.json()
    if answer.status_code == 200:
        shown = told["input"]
        assert "/" not in shown and "\\" not in shown and shown.isprintable() and len(shown) <= 120
    else:
        assert answer.status_code in (400, 415), told
    for written in (client.post("/v1/translate?format=srt", content=body, headers=head),):
        assert all(ord(c) < 127 for c in written.headers.get("content-disposition", ""))


def test_shown_names() -> None:
    assert shown_name("../a/b/video.mp4") == "video.mp4"
    assert shown_name("C:\\videos\\mine.MOV") == "mine.MOV" and suffix_of("mine.MOV") == ".mov"
    assert shown_name("\x1b\x07\n") == shown_name(None) == shown_name("...") == "recording"
    assert shown_name("çà va\u2028?.mp4") == "çà va?.mp4"
    assert len(shown_name("x" * 500 + ".mp4")) <= 120 and shown_name("x" * 500 + ".mp4").endswith(".mp4")
    assert suffix_of("a.b c") == suffix_of("a") == suffix_of("a.") == suffix_of("a.toolongasuffix") == ""
    assert attachment('a"b;ü.mp4', ".srt") == "attachment; filename=\"a_b__.srt\"; filename*=UTF-8''a%22b%3B%C3%BC.srt"


def bomb(nested: bool) -> bytes:
    return b"[" * 200_000 if nested else b'{"people": [' + b"{}," * 20_000 + b"{}]}"


def zipped(kilobytes: int) -> bytes:
    """An .npz whose array says, and unpacks to, far more than it has."""
    buffer, array = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        array, {"descr": "<f4", "fortran_order": False, "shape": (kilobytes * 2, 133, 2)}
    )
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("keypoints.npy", array.getvalue() + bytes(kilobytes << 10))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (bomb(True), "bomb.json"),
        (bomb(False), "bomb.json"),
        (b'{"a":' * 100_000, "bomb.json"),
        (zipped(4000), "bomb.npz"),
        (b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.", "bomb.pkl"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "list.m3u8"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "list.mp4"),
        (b"hello" * 1000, "text.txt"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "bomb.h5"),
        (b"\x00" * 5000, "zeros.webm"),
    ],
)
def test_bombs_and_what_is_no_recording(serve: Serve, content: bytes, name: str) -> None:
    client = serve()
    answer = post(client, content, name)
    assert answer.status_code in (413, 415, 422), answer.text
    assert code(answer)
    assert client.get("/healthz").status_code == 200


def forms() -> dict[str, bytes]:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.npz"\r\n\r\n'
    return {
        "cut off": part + b"abc",
        "no end": part + b"abc\r\n",
        "two files": part + b"abc\r\n" + part + b"abc\r\n--b--\r\n",
        "empty file": part + b"\r\n--b--\r\n",
        "nothing": b"",
        "not a form": b"hello",
        "long head": b'--b\r\nContent-Disposition: form-data; name="' + b"x" * 20_000,
        "many heads": b"--b\r\n" + b"X-Y: z\r\n" * 3000,
        "no name": b'--b\r\nContent-Disposition: form-data; filename="a.npz"\r\n\r\nabc\r\n--b--\r\n',
    }


@pytest.mark.parametrize("kind", forms())
def test_damaged_forms(serve: Serve, kind: str) -> None:
    head = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = serve().post("/v1/translate", content=forms()[kind], headers=head)
    assert answer.status_code == 400 and code(answer)


def test_a_full_disk(serve: Serve, keypoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()
    content = keypoints.read_bytes()
    real = Path.open

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        return Full() if mode == "xb" else real(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", opened)
    full = post(client, content, "poses.npz")
    assert (full.status_code, code(full)) == (507, "disk_full")
    monkeypatch.undo()
    assert post(client, content, "poses.npz").status_code == 200


def test_a_model_that_is_removed_while_it_is_served(
    serve: Serve, bundle_copy: Path, keypoints: Path, tmp_path: Path
) -> None:
    content = keypoints.read_bytes()
    mine = bundle_copy.rename(tmp_path / "mine")
    client = serve(bundles=(mine,))
    assert post(client, content, "poses.npz").status_code == 200
    shutil.rmtree(mine)
    for query in ("", "?model=mine", "?format=ndjson"):
        answer = post(client, content, "poses.npz", query)
        assert (answer.status_code, code(answer)) == (503, "model_gone")
        assert str(tmp_path) not in answer.text
    assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["demo"]
    assert client.get("/healthz").status_code == 200


def test_a_model_that_is_replaced_is_read_anew(
    serve: Serve, tiny: TinyBundle, bundle_copy: Path, keypoints: Path, tmp_path: Path
) -> None:
    mine = bundle_copy.rename(tmp_path / "mine")
    client = serve(bundles=(mine,))
    content = keypoints.read_bytes()
    before = post(client, content, "poses.npz").json()["sentences"][0]
    manifest = json.loads((mine / "signet.json").read_text())
    manifest["language"] = "nl"
    (mine / "signet.json").write_text(json.dumps(manifest))
    after = post(client, content, "poses.npz").json()["sentences"][0]
    assert (before["language"], after["language"]) == ("mul", "nl") and before["text"] == after["text"]
    assert client.app.state.service.shelf.loaded() == 1  # type: ignore[attr-defined]


def test_no_more_models_are_loaded_than_may_be(serve: Serve, keypoints: Path, tiny: TinyBundle, tmp_path: Path) -> None:
    copies = tuple(Path(shutil.copytree(tiny.path, tmp_path / f"copy{n}")) for n in range(4))
    client = serve(bundles=copies, models=2, at_once=2)
    content = keypoints.read_bytes()

    def ask(n: int) -> str:
        return str(post(client, content, "poses.npz", f"?model=copy{n % 4}").json()["sentences"][0]["text"])

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(16)))) == 1
    assert client.app.state.service.shelf.loaded() <= 2  # type: ignore[attr-defined]


HOSTS = {
    "localhost": True,
    "localhost:9": True,
    "127.0.0.1:8765": True,
    "[::1]:8765": True,
    "LOCALHOST.": True,
    "mine.example.org": True,
    "evil.example.org": False,
    "localhost.evil.org": False,
    "192.168.0.7": False,
    "": False,
    "localhost@evil.org": False,
    "[::1": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_that_are_not_ours(serve: Serve, host: str) -> None:
    client = serve(hosts=("mine.example.org",))
    answer = client.get("/v1/models", headers={"Host": host})
    assert answer.status_code == (200 if HOSTS[host] else 400), answer.text


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost:81"}, False),
        ({"Origin": "https://evil.example.org"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, True),
    ],
)
def test_other_sites_pages_may_send_nothing(serve: Serve, headers: dict[str, str], passes: bool) -> None:
    from starlette.testclient import WebSocketDenialResponse

    client = serve()
    assert (client.post("/v1/translate", headers=headers).status_code == 403) is not passes
    assert "access-control-allow-origin" not in client.get("/v1/models", headers=headers).headers
    if passes:
        with client.websocket_connect("ws://localhost/v1/stream", headers=headers) as socket:
            socket.send_text("x")
            assert json.loads(socket.receive_text())["code"] == "bad_message"
    else:
        with (
            pytest.raises(WebSocketDenialResponse),
            client.websocket_connect("ws://localhost/v1/stream", headers=headers),
        ):
            pass


def test_the_token_is_asked_for_where_it_matters(serve: Serve, keypoints: Path) -> None:
    client = serve(token="0123456789abcdef")
    content = keypoints.read_bytes()
    for path in ("/v1/models", "/metrics"):
        answer = client.get(path)
        assert (answer.status_code, code(answer)) == (401, "unauthorised")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == 200
    for given in ("Bearer wrong", "Basic 0123456789abcdef", "0123456789abcdef", "Bearer", "Bearer 0123456789abcdeF"):
        assert post(client, content, "poses.npz", headers={"Authorization": given}).status_code == 401
    for given in ("Bearer 0123456789abcdef", "bearer  0123456789abcdef"):
        assert post(client, content, "poses.npz", headers={"Authorization": given}).status_code == 200


def test_every_answer_has_the_headers(serve: Serve) -> None:
    client = serve()
    answers = [client.get("/v1/models"), client.get("/nothing"), client.post("/v1/translate"), client.get("/healthz")]
    answers.append(client.get("/v1/models", headers={"Host": "evil.org"}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["permissions-policy"].startswith("camera=(self)")
    assert client.get("/nothing").json()["error"]["code"] == "not_found"
    assert client.get("/v1/translate").json()["error"]["code"] == "not_found"  # the page has no such file


def test_a_thread_that_is_stuck_shows_in_health(serve: Serve) -> None:
    client = serve(at_once=1, time=0.1, length=0.1)
    lanes = client.app.state.service.lanes  # type: ignore[attr-defined]
    (lane,) = lanes.lanes
    lane.since = time.monotonic() - 1
    assert client.get("/healthz").status_code == 503
    lane.since = None
    assert client.get("/healthz").status_code == 200


def test_counters_of_one_server_are_not_anothers(serve: Serve) -> None:
    first, second = serve(), serve()
    for _ in itertools.repeat(None, 3):
        first.get("/v1/models")
    line = 'signet_requests_total{route="/v1/models",status="200"} 3.0'
    assert line in first.get("/metrics").text and line not in second.get("/metrics").text
    assert threading.active_count() < 100
