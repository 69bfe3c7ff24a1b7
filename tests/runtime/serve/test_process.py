"""A real server and clients that misbehave: slow, gone, greedy; and signals."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from server_process import Server, running
from tiny_bundle import TinyBundle, random_poses

from signet_runtime.commands.serve import main
from signet_runtime.pose.files import write_keypoints
from signet_runtime.serve.scratch import scratch_directory

LIMITS = {
    "at_once": 2,
    "waiting": 2,
    "header_time": 1.0,
    "silence": 1.0,
    "size": 3_000_000,
    "connections": 40,
    "time": 20.0,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(tiny: TinyBundle, place: Path) -> Iterator[Server]:
    (place / "scratch").mkdir()
    with running(place / "log", LIMITS, bundles=[tiny.path], scratch=place / "scratch") as server:
        yield server
        assert server.process.poll() is None  # whatever was done to it
        assert "Traceback" not in server.log.read_text()
        assert server.stop() == 0
    assert list((place / "scratch").iterdir()) == []


@pytest.fixture(scope="module")
def recording(place: Path) -> bytes:
    write_keypoints(place / "poses.npz", random_poses(7, frames=50))
    return (place / "poses.npz").read_bytes()


@pytest.fixture
def nothing_left(server: Server, place: Path) -> Iterator[None]:
    yield
    (own,) = (place / "scratch").iterdir()
    for _ in range(100):
        if [path.name for path in own.iterdir()] == ["owner.lock"] and inside(server) == 0:
            return
        time.sleep(0.05)
    raise AssertionError([path.name for path in own.iterdir()])


def inside(server: Server) -> float:
    """Requests at work or waiting."""
    lines = [line.split(" ") for line in httpx.get(f"{server.url}/metrics").text.splitlines()]
    names = ("signet_translations_running", "signet_translations_waiting")
    return sum(float(value) for name, *_, value in lines if name in names)


def translate(server: Server, content: bytes, name: str = "poses.npz", **options: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/translate", files={"file": (name, content)}, timeout=30, **options)


def head(length: int, more: str = "") -> bytes:
    lines = [
        "POST /v1/translate HTTP/1.1",
        "Host: localhost",
        "Content-Type: multipart/form-data; boundary=b",
        f"Content-Length: {length}",
    ]
    return ("\r\n".join(lines) + f"\r\n{more}\r\n").encode()


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'


def answer(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def test_a_head_that_does_not_end_is_closed(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        since = time.monotonic()
        try:
            for _ in range(100):
                connection.sendall(b"X-More: 1\r\n")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - since < 5
    with server.connect() as silent:
        since = time.monotonic()
        assert answer(silent) == b""
        assert time.monotonic() - since < 5
    with server.connect() as again:  # also after an answer
        again.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
        since = time.monotonic()
        assert answer(again).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - since < 5


def test_a_head_that_is_too_long_is_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000)
        assert answer(connection)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")


@pytest.mark.usefixtures("nothing_left")
def test_a_body_that_stops_is_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(head(100_000) + PART + b"abc")
        said = answer(connection)
    assert said.startswith(b"HTTP/1.1 408") and b"too_slow" in said


@pytest.mark.usefixtures("nothing_left")
def test_a_body_that_dribbles_is_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(head(1_000_000) + PART)
        since = time.monotonic()
        try:
            for _ in range(200):
                connection.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - since < 6


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("stated", [True, False])
def test_what_is_too_large_gets_its_answer_while_it_sends(server: Server, stated: bool) -> None:
    content = bytes(1 << 20)

    def body() -> Iterator[bytes]:
        yield PART
        for _ in range(40):
            yield content

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    if stated:
        headers["Content-Length"] = str(len(PART) + 40 * len(content))
    try:
        said = httpx.post(f"{server.url}/v1/translate", content=body(), headers=headers, timeout=20)
    except httpx.WriteError:  # this client does not listen while it sends; others do
        with server.connect() as connection:
            connection.sendall(head(40 << 20) + PART + content)
            raw = answer(connection)
        assert raw.startswith(b"HTTP/1.1 413") and b"too_large" in raw
    else:
        assert said.status_code == 413 and said.json()["error"]["code"] == "too_large"


@pytest.mark.usefixtures("nothing_left")
def test_who_asks_first_is_told_before_it_sends(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(head(50_000_000, "Expect: 100-continue\r\n"))
        since = time.monotonic()
        assert answer(connection).startswith(b"HTTP/1.1 413")
        assert time.monotonic() - since < 1


@pytest.mark.usefixtures("nothing_left")
def test_who_goes_half_way_leaves_nothing(server: Server, recording: bytes) -> None:
    for _ in range(6):
        with server.connect() as connection:
            connection.sendall(head(2_000_000) + PART + bytes(1_500_000))
        with server.connect() as connection:  # and with a reset
            connection.sendall(head(2_000_000) + PART + bytes(10_000))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for _ in range(50):
        if translate(server, recording).status_code == 200:
            return
        time.sleep(0.05)
    raise AssertionError("no lane is free")


@pytest.mark.usefixtures("nothing_left")
def test_who_goes_while_it_is_translated_frees_the_lane(server: Server, place: Path) -> None:
    write_keypoints(place / "long.npz", random_poses(3, frames=1000))  # more than one sentence
    content = (place / "long.npz").read_bytes()
    body = PART.replace(b"a.mp4", b"a.npz") + content + b"\r\n--b--\r\n"
    for _ in range(8):
        with server.connect() as connection:
            connection.sendall(head(len(body)) + body)
            time.sleep(0.05)
    since = time.monotonic()
    while inside(server):
        assert time.monotonic() - since < 10
        time.sleep(0.05)


@pytest.mark.usefixtures("nothing_left")
def test_more_than_there_is_room_for(server: Server, recording: bytes) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: translate(server, recording), range(20)))
    assert {said.status_code for said in answers} <= {200, 503}
    texts = {said.json()["sentences"][0]["text"] for said in answers if said.status_code == 200}
    assert len(texts) == 1
    assert all(int(said.headers["retry-after"]) >= 1 for said in answers if said.status_code == 503)


def test_too_many_connections_do_not_keep_the_others_out_for_long(server: Server) -> None:
    connections = [server.connect() for _ in range(60)]
    time.sleep(1.5)  # the heads are overdue
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    for connection in connections:
        connection.close()


def test_who_does_not_read_is_closed(server: Server) -> None:
    connection = server.connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    since = time.monotonic()
    connection.settimeout(1.0)
    try:
        while time.monotonic() - since < 15:
            connection.sendall(request * 50)
    except OSError:
        pass
    # Either it was closed, or it is the server that does not read on; a closed one says so within a moment.
    deadline = time.monotonic() + 6
    closed = False
    while time.monotonic() < deadline and not closed:
        try:
            connection.sendall(request)
            time.sleep(0.2)
        except TimeoutError:
            continue
        except OSError:
            closed = True
    assert closed
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_socket_whose_client_dies_frees_the_lane(server: Server) -> None:
    from websockets.sync.client import connect

    for _ in range(4):
        socket_ = connect(f"ws://127.0.0.1:{server.port}/v1/stream")
        socket_.send(json.dumps({"type": "start", "source": "keypoints", "size": [640, 480]}))
        assert json.loads(socket_.recv(timeout=10))["type"] == "ready"
        poses = random_poses(1, frames=3)
        for index in range(3):
            message = {"type": "keypoints", "time": index / 25, "keypoints": poses.keypoints[index].tolist()}
            socket_.send(json.dumps({**message, "scores": [1.0] * 133}))
        socket_.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket_.socket.close()
    since = time.monotonic()
    while inside(server):
        assert time.monotonic() - since < 10
        time.sleep(0.05)


def test_a_message_that_is_too_large_closes_the_socket(server: Server) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{server.port}/v1/stream") as socket_, pytest.raises(ConnectionClosed):
        socket_.send(bytes(6_000_000))
        while True:
            socket_.recv(timeout=10)
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_the_next_server_removes_what_a_killed_one_left(tiny: TinyBundle, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    others = scratch / "signet-serve.link"
    others.symlink_to(tmp_path)
    with running(tmp_path / "log", LIMITS, bundles=[tiny.path], scratch=scratch) as server, server.connect() as sender:
        sender.sendall(head(2_000_000) + PART + bytes(1_400_000))
        for _ in range(100):
            if list(scratch.glob("*/upload.*/upload.mp4")):
                break
            time.sleep(0.05)
        (upload,) = scratch.glob("*/upload.*/upload.mp4")
        assert upload.parent.stat().st_mode & 0o077 == upload.parent.parent.stat().st_mode & 0o077 == 0
        server.process.kill()
        server.process.wait()
    assert upload.exists()
    with scratch_directory(scratch) as first:  # as the next server does
        assert not upload.exists() and others.is_symlink()
        with scratch_directory(scratch) as second:
            assert {first, second, others} == set(scratch.iterdir())  # the first one lives
        assert {first, others} == set(scratch.iterdir())
    assert list(scratch.iterdir()) == [others]


def test_a_signal_lets_who_is_inside_finish(tiny: TinyBundle, tmp_path: Path, recording: bytes) -> None:
    (tmp_path / "scratch").mkdir()
    with running(tmp_path / "log", LIMITS, bundles=[tiny.path], scratch=tmp_path / "scratch") as server:
        statuses: list[int] = []
        clients = [
            threading.Thread(target=lambda: statuses.append(translate(server, recording).status_code)) for _ in range(2)
        ]
        for client in clients:
            client.start()
        time.sleep(0.05)
        assert server.stop() == 0
        for client in clients:
            client.join()
    assert all(status in (200, 503) for status in statuses)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_cannot_be_served_is_said_in_a_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNET_LIMITS", "")  # which a server narrows
    (tmp_path / "token").write_text("short\n")
    (tmp_path / "spaced").write_text("a token with spaces\n")
    for code, *arguments in (
        (3, "--port", str(server.port)),
        (3, "--host", "no.such.host.invalid"),
        (3, "--port", "0", "--temp", str(tmp_path / "nothing")),
        (3, "--token-file", str(tmp_path / "token")),
        (3, "--token-file", str(tmp_path / "spaced")),
        (3, "--token-file", str(tmp_path / "nothing")),
        (4, "--port", "0", "--bundle", str(tmp_path)),
        (5, "--port", "0", "--model", "no-such-model"),
        (2, "--at-once", "0"),
    ):
        done = CliRunner().invoke(main, list(map(str, arguments)))
        assert done.exit_code == code, (arguments, done.output)
        assert "Traceback" not in done.output and done.stdout == ""
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(("signet-serve: error: ", "Error: ")), done.stderr


def test_what_files_may_declare_is_held_to_what_the_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from signet_runtime.limits import limits
    from signet_runtime.serve.running import narrow_limits
    from signet_runtime.serve.settings import Limits

    monkeypatch.setenv("SIGNET_LIMITS", "pixels=1000000,nesting=9")
    narrow_limits(Limits(length=10, keypoints_size=1000))
    narrow = limits()
    assert (narrow.frames, narrow.json_bytes, narrow.pixels, narrow.nesting) == (1200, 1000, 1_000_000, 9)
    monkeypatch.setenv("SIGNET_LIMITS", "")
    wide = limits()
    narrow_limits(Limits())
    narrow = limits()
    for name in ("frames", "people", "json_bytes", "keypoint_bytes", "pixels", "decode_seconds"):
        assert 0 < getattr(narrow, name) <= getattr(wide, name), name
