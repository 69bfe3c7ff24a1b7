"""Two servers behind nginx, by the configuration that comes with the project."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from server_process import Server, running
from tiny_bundle import TinyBundle, random_poses

from signet_runtime.pose.files import write_keypoints

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def proxied(tiny: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Server]]]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not here: apt-get install nginx-light")
    place = tmp_path_factory.mktemp("nginx")
    place.chmod(0o755)
    (place / "scratch").mkdir()
    limits = {"at_once": 1, "waiting": 6}
    given = {"bundles": [tiny.path], "scratch": place / "scratch"}
    with running(place / "log1", limits, **given) as first, running(place / "log2", limits, **given) as second:
        port = free_port()
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        for written, used in (("8765", first.port), ("8766", second.port)):
            assert text.count(f"127.0.0.1:{written}") == 1
            text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{used}")
        text, count = re.subn(r"listen 8080;", f"listen 127.0.0.1:{port};", text)
        assert count == 1
        # All requests of this test are of one address.
        text = text.replace("limit_conn each 8;", "limit_conn each 100;")
        (place / "nginx.conf").write_text(f"daemon off;\n{text}")
        process = subprocess.Popen(
            [nginx, "-p", str(place), "-c", str(place / "nginx.conf")], stderr=(place / "nginx.log").open("w")
        )
        try:
            for _ in range(100):
                if process.poll() is not None:
                    raise AssertionError((place / "nginx.log").read_text())
                try:
                    httpx.get(f"http://127.0.0.1:{port}/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield f"127.0.0.1:{port}", [first, second]
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("recording") / "poses.npz"
    write_keypoints(path, random_poses(7, frames=50))
    return path.read_bytes()


def done(server: Server) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return sum(float(line.split()[1]) for line in text.splitlines() if 'translations_total{outcome="done"}' in line)


def test_both_work_and_say_the_same(proxied: tuple[str, list[Server]], recording: bytes) -> None:
    address, servers = proxied

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"http://{address}/v1/translate", files={"file": ("a.npz", recording)}, timeout=30)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["sentences"][0]["text"] for answer in answers}) == 1
    counts = [done(server) for server in servers]
    assert sum(counts) == 24 and min(counts) > 0


def test_events_and_sockets_pass(proxied: tuple[str, list[Server]], recording: bytes) -> None:
    from websockets.sync.client import connect

    address, _ = proxied
    with httpx.stream(
        "POST", f"http://{address}/v1/translate?format=ndjson", files={"file": ("a.npz", recording)}, timeout=30
    ) as answer:
        kinds = [json.loads(line)["type"] for line in answer.iter_lines()]
    assert kinds[0] == "ready" and kinds[-2:] == ["sentence", "end"]
    poses = random_poses(3, frames=30)
    with connect(f"ws://{address}/v1/stream", origin=f"http://{address}") as stream:  # type: ignore[arg-type]
        stream.send(json.dumps({"type": "start", "source": "keypoints", "size": [640, 480]}))
        for index, (keypoints, scores) in enumerate(zip(poses.keypoints, poses.scores, strict=True)):
            message = {"type": "keypoints", "time": index / 25, "keypoints": keypoints.tolist()}
            stream.send(json.dumps({**message, "scores": scores.tolist()}))
        stream.send(json.dumps({"type": "end"}))
        events = [json.loads(text) for text in stream]
    assert [event["type"] for event in events if event["type"] in ("ready", "sentence", "end")][-1] == "end"


def test_what_the_proxy_refuses_and_what_the_server_does(proxied: tuple[str, list[Server]]) -> None:
    address, _ = proxied
    foreign = httpx.post(f"http://{address}/v1/translate", headers={"Origin": "https://evil.example.org"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "foreign_page")
    named = httpx.get(f"http://{address}/v1/models", headers={"Host": "evil.example.org"})
    assert (named.status_code, named.json()["error"]["code"]) == (400, "host_not_allowed")
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_one_goes_and_the_other_goes_on(proxied: tuple[str, list[Server]], recording: bytes) -> None:
    address, servers = proxied
    assert servers[0].stop() == 0
    for _ in range(6):
        answer = httpx.post(f"http://{address}/v1/translate", files={"file": ("a.npz", recording)}, timeout=30)
        assert answer.status_code == 200
    assert done(servers[1]) > 0
