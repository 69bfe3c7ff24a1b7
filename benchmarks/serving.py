"""A server under load: requests at once and in a row, clients that misbehave, and how long an upload takes to be text.

    python -m benchmarks.serving                    all of it, a few minutes
    python -m benchmarks.serving --in-a-row 20

A `signet-serve` of its own is started with the demo and asked over HTTP, as any client would. Whoever gets 503 comes
again when the server says so. At the end the clients' own counts are compared with `/metrics`, and the command fails
(exit code 1) where they differ, a text is wrong, a request is lost, something of an upload stays, memory grows, or an
upload takes more than 1.3 times as long as the same video takes a warm `Translator`, as `signet-translate` has one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import httpx

from benchmarks.measuring.report import Ratio, Size, Table, Timing, header
from signet_runtime.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = {ROOT / "examples" / "ase_music.mp4": "music", ROOT / "examples" / "psr_falar.mp4": "falar"}
MOST = 1.3  # times as long as a translator takes
GROWTH = 1.15  # of memory, from the first half of a run to its end
_FORM = "Content-Type: multipart/form-data; boundary=b"


@dataclass
class Server:
    """A `signet-serve` that is ready."""

    process: subprocess.Popen[str]
    url: str
    scratch: Path

    def ask(self, video: Path) -> httpx.Response:
        """Send a video, once."""
        return httpx.post(f"{self.url}/v1/translate", files={"file": (video.name, video.read_bytes())}, timeout=300)

    def insist(self, video: Path, seen: Counter[int]) -> str:
        """Send a video until it is translated, as often as the server says; return the text."""
        while True:
            answer = self.ask(video)
            seen[answer.status_code] += 1
            if answer.status_code == 503:
                time.sleep(float(answer.headers["Retry-After"]))
            else:
                answer.raise_for_status()
                return " ".join(sentence["text"] for sentence in answer.json()["sentences"])

    def metrics(self) -> dict[str, float]:
        """Return every counter, by its name with its labels."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}

    def memory(self) -> int:
        """Return what is resident of the server and of its decoders, in bytes."""
        import psutil

        own = psutil.Process(self.process.pid)
        return sum(process.memory_info().rss for process in (own, *own.children(recursive=True)))

    def left(self) -> list[str]:
        """Return what there is of uploads."""
        return [path.name for path in self.scratch.glob("signet-serve.*/upload.*")]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Server]:
    """Start one."""
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "log").open("w+") as log:
        command = [sys.executable, "-m", "signet_runtime.commands.serve", "--port", "0", "--temp", scratch, *arguments]
        process = subprocess.Popen(command, stderr=log, text=True)
        try:
            found = None
            while found is None:
                time.sleep(0.1)
                found = re.search(r"(http://\S+) is ready", Path(log.name).read_text())
                if process.poll() is not None:
                    sys.exit(Path(log.name).read_text())
            yield Server(process, found[1], Path(scratch))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def texts(server: Server, videos: list[Path], at_once: int, seen: Counter[int]) -> tuple[list[str], float]:
    """Translate videos, so many at once; return the texts and the seconds that all of them took."""
    since = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(lambda video: server.insist(video, seen), videos))
    return found, time.perf_counter() - since


def posed(directory: Path) -> dict[Path, str]:
    """Write the keypoints of the examples, and return what each file says."""
    from signet_runtime import Translator
    from signet_runtime.pose.files import write_keypoints

    found = {}
    with Translator() as translator:
        for video, text in EXAMPLES.items():
            path = directory / f"{video.stem}.npz"
            write_keypoints(path, translator.read_poses(video))
            found[path] = text
    return found


def refused(server: Server, limit: int) -> dict[str, str]:
    """Be slow-loris, and send too much; return what the server did."""
    port = int(server.url.rpartition(":")[2])
    done = {}
    with socket.create_connection(("127.0.0.1", port)) as connection:
        since = time.perf_counter()
        connection.sendall(b"POST /v1/translate HTTP/1.1\r\n")
        connection.settimeout(60)
        with contextlib.suppress(OSError):
            while time.perf_counter() - since < 60:
                connection.sendall(b"X: y\r\n")
                time.sleep(0.5)
        done["a head that does not end"] = f"closed after {time.perf_counter() - since:.0f} s"
    for name, length, body in (
        ("a body that stops", 100_000, b"--b\r\n"),
        ("a body that is too large, by its head", limit * 2, b"--b\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            since = time.perf_counter()
            head = f"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\n{_FORM}\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode() + body)
            status = connection.recv(64).split(b" ")[1].decode()
            done[name] = f"{status} after {time.perf_counter() - since:.1f} s"
    return done


def compared(server: Server, video: Path, rounds: int) -> Table:
    """Measure, in turn, an upload and a translator in a process that is warm."""
    code = (
        "import sys, time\nfrom signet_runtime import Translator\n"
        "translator = Translator()\nwhole = 2 * translator.bundle.manifest.max_frames\n"
        "for line in sys.stdin:\n"
        "    since = time.perf_counter()\n"
        "    found = [s.text for s in translator.sentences(line.strip(), whole=whole)]\n"
        "    print(time.perf_counter() - since, *found, flush=True)\n"
    )
    upload, alone = Timing(), Timing()
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(rounds + 2):
            since = time.perf_counter()
            server.ask(video).raise_for_status()
            of_upload = time.perf_counter() - since
            process.stdin.write(f"{video}\n")
            process.stdin.flush()
            seconds, text = process.stdout.readline().split()
            assert text == EXAMPLES[video]
            if number >= 2:  # both are warm
                upload.seconds.append(of_upload)
                alone.seconds.append(float(seconds))
        process.stdin.close()
    ratio = Ratio(upload, alone)
    return Table(
        "upload",
        "From the upload to the text",
        ["", "ms", "of a warm translator's"],
        [["a warm `Translator`, as `signet-translate` has it", alone, ""], ["upload to text over HTTP", upload, ratio]],
        [f"`{video.name}`, medians of {rounds} rounds in turn (least–most). At most {MOST} is allowed."],
    )


@click.command()
@click.option("--at-once", default=20, show_default=True)
@click.option("--in-a-row", default=200, show_default=True)
@click.option("--rounds", default=15, show_default=True, help="Of the comparison with a translator.")
@click.option("--only-compare", is_flag=True, help="Only that.")
def main(at_once: int, in_a_row: int, rounds: int, only_compare: bool) -> None:
    """Load a server, and say how it bore it."""
    videos = [video for video in EXAMPLES for _ in range(at_once)][::2][:at_once]
    wrong: list[str] = []
    limit = 20_000_000
    click.echo(f"`{' '.join(['python -m benchmarks.serving', *sys.argv[1:]])}`\n\n{header()}\n")
    with running("--max-size", str(limit / 1e6), "--at-once", "2", "--waiting", "8") as server:
        comparison = compared(server, next(iter(EXAMPLES)), rounds)
        click.echo(f"{comparison.markdown()}\n")
        ratio = comparison.rows[1][2]
        assert isinstance(ratio, Ratio) and ratio.value is not None
        if ratio.value > MOST:
            wrong.append(f"an upload takes {ratio.value:.2f} times as long as a translator")
        if not only_compare:
            with tempfile.TemporaryDirectory() as directory:
                keypoints = posed(Path(directory))
                wrong += _loaded(server, videos, keypoints, in_a_row, limit, asked=rounds + 2)
    for line in wrong:
        click.echo(f"wrong: {line}", err=True)
    sys.exit(ExitCode.FAILED if wrong else ExitCode.DONE)


def _loaded(
    server: Server, videos: list[Path], keypoints: dict[Path, str], in_a_row: int, limit: int, asked: int
) -> list[str]:
    wrong: list[str] = []
    seen: Counter[int] = Counter({200: asked})
    rows: list[Sequence[object]] = []
    warm = server.memory()

    def judge(name: str, sent: list[Path], at_once: int) -> None:
        before = Counter(seen)
        found, seconds = texts(server, sent, at_once, seen)
        expected = {**EXAMPLES, **keypoints}
        right = sum(text == expected[each] for text, each in zip(found, sent, strict=True))
        if right < len(sent):
            wrong.append(f"{name}: {len(sent) - right} texts are not right")
        later = seen[503] - before[503]
        rows.append(
            [name, len(sent), right, later, f"{seconds:.1f}", f"{len(sent) / seconds:.1f}", Size(server.memory())]
        )

    judge(f"{len(videos)} at once", videos, len(videos))
    # Videos and their keypoints in turn: what a recording costs, and what a request does.
    kinds = [each for pair in zip(EXAMPLES, keypoints, strict=True) for each in pair]
    half = [kinds[number % len(kinds)] for number in range(in_a_row // 2)]
    judge(f"{len(half)} in a row", half, 1)
    middle = server.memory()
    judge(f"{len(half)} more in a row", half, 1)
    if server.memory() > GROWTH * middle:
        wrong.append("memory grows")
    table = Table(
        "load",
        "Under load",
        ["requests", "sent", "right", "told to come again", "s", "a second", "memory then"],
        rows,
        [
            f"Two lanes, eight places to wait, {os.cpu_count()} CPUs. Memory is what is resident of the server and its "
            f"decoders; {Size(warm)} when it was warm.",
            "In a row are videos and their keypoints, in turn.",
            "Who was told to come again (503, Retry-After) did, and is counted as right when it got its text.",
        ],
    )
    click.echo(f"{table.markdown()}\n")
    behaved = Table("refused", "Who misbehaves", ["client", "what it gets"], [])
    behaved.rows = [[name, what] for name, what in refused(server, limit).items()]
    click.echo(f"{behaved.markdown()}\n")
    time.sleep(0.5)
    told = server.metrics()
    counts: list[Sequence[object]] = []
    for status, extra in ((200, 0), (503, 0), (408, 1), (413, 1)):
        name = f'signet_requests_total{{route="/v1/translate",status="{status}"}}'
        ours, theirs = seen[status] + extra, int(told.get(name, 0))
        counts.append([f"answers {status}", ours, theirs])
        if ours != theirs:
            wrong.append(f"{name} is {theirs}, and the clients counted {ours}")
    for name, ours in (
        ('signet_translations_total{outcome="done"}', seen[200]),
        ("signet_translation_seconds_count", seen[200]),
        ("signet_translations_running", 0),
        ("signet_translations_waiting", 0),
    ):
        counts.append([f"`{name}`", ours, int(told.get(name, 0))])
        if told.get(name, 0) != ours:
            wrong.append(f"{name} is {told.get(name)}, and not {ours}")
    click.echo(Table("metrics", "What /metrics tells", ["", "clients", "server"], counts).markdown())
    if server.left():
        wrong.append(f"{server.left()} stay of uploads")
    return wrong


if __name__ == "__main__":
    main()
