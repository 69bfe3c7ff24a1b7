"""A long video through signet-translate: sentences with their times, and memory that does not grow.

    python -m benchmarks.long_video                 30 minutes, beside 10 seconds
    python -m benchmarks.long_video --minutes 2

Real signers' letters, drawn as an avatar, spell words with the hands at rest between them; the first minute of it is
drawn, the others are the same again. Printed are how many of the words came out as one sentence of their own, where
they began, and the peak resident memory of each run as the operating system counts it. A last run of the long video is
interrupted by Ctrl-C, to see what is kept.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import av
import click
import numpy as np

from signet_train.data.spelled.clips import CAMERA_FPS, Pace, join_word, load_landmarks, words
from signet_train.data.spelled.drawing import draw_frames
from signet_train.data.spelled.video import write_video

ALPHABET = "psr"
# A process that is started counts its peak from that of whoever started it, so somebody small does.
_LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""

_REST = 2.0  # seconds between words
_MOVE = 0.3  # of them until the hand has come to rest


def signing(seconds: float) -> tuple[np.ndarray, np.ndarray, list[tuple[float, str]]]:
    """About so many seconds of words and rests: landmarks (T, 553, 3), scores (T, 553), and when each word begins."""
    rng = np.random.default_rng(0)
    listed = iter(rng.permutation(words(ALPHABET, split="test", max_letters=6)).tolist())
    points: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    said: list[tuple[float, str]] = []
    count = 0
    clips = []
    while count < seconds * CAMERA_FPS:
        word = next(listed)
        clip = join_word(word, ALPHABET, load_landmarks, Pace())
        said.append((count / CAMERA_FPS, word))
        clips.append(clip)
        count += len(clip[0]) + round(_REST * CAMERA_FPS)
    for (word_points, word_scores), (next_points, _) in pairwise([*clips, clips[0]]):
        rest = np.clip(np.arange(1, round(_REST * CAMERA_FPS) + 1) / CAMERA_FPS / _MOVE, 0, 1)[:, None, None]
        way = word_points[-1] + rest * (next_points[0] - word_points[-1])
        points += [word_points, way.astype(np.float32)]
        scores += [word_scores, np.repeat(word_scores[-1:], len(way), axis=0)]
    return np.concatenate(points), np.concatenate(scores), said


def repeat(source: Path, target: Path, times: int) -> None:
    """Write the same video over and over, without encoding it again."""
    with av.open(str(target), "w") as out:
        made = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                made = made or out.add_stream_from_template(stream)
                assert stream.duration is not None
                for packet in container.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.dts += offset
                    packet.pts += offset
                    packet.stream = made
                    out.mux(packet)
                offset += stream.duration


def translate(video: Path, *options: str, interrupt_after: float | None = None) -> tuple[list[dict], float, float, int]:
    """Return what signet-translate says about a video, in how many seconds, with how many MB, and its exit code."""
    begun = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "signet_runtime.commands.translate",
        "-q",
        str(video),
        "--cut",
        "always",
        "--format",
        "json",
    ]
    if interrupt_after is not None:
        with subprocess.Popen([*command, *options]) as process:
            time.sleep(interrupt_after)
            process.send_signal(signal.SIGINT)
        return [], time.perf_counter() - begun, 0.0, process.returncode
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *command, *options], capture_output=True, text=True, check=False
    )
    peak = int(done.stderr.split()[-1]) / (1e6 if sys.platform == "darwin" else 1e3)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return found, time.perf_counter() - begun, peak, done.returncode


@click.command()
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(min=1))
def main(minutes: float) -> None:
    """Print sentences, speed and peak memory for a video of 10 seconds and for one of MINUTES."""
    points, scores, said = signing(60.0)
    length = len(points) / CAMERA_FPS
    times = max(1, round(minutes * 60 / length))
    with tempfile.TemporaryDirectory() as directory:
        minute, short, long = (Path(directory, name) for name in ("minute.mp4", "short.mp4", "long.mp4"))
        write_video(minute, draw_frames(points, scores), CAMERA_FPS)
        some = round(10 * CAMERA_FPS)
        write_video(short, draw_frames(points[:some], scores[:some]), CAMERA_FPS)
        repeat(minute, long, times)
        click.echo("| video | sentences | words | found alone | read right | took | times real time | peak MB |")
        click.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
        peaks = []
        for video, seconds, spelled in (
            (short, 10.0, [(start, word) for start, word in said if start < 9]),
            (long, times * length, [(start + n * length, word) for n in range(times) for start, word in said]),
        ):
            found, took, peak, code = translate(video)
            if code:
                raise SystemExit(f"signet-translate ended with {code}")
            ends = [start for start, _ in spelled[1:]] + [seconds]
            alone = right = 0
            for (start, word), end in zip(spelled, ends, strict=True):
                mine = [s["text"] for s in found if start - 0.5 <= (s["start"] + s["end"]) / 2 < end - 0.5]
                alone, right = alone + (len(mine) == 1), right + (mine == [word])
            click.echo(
                f"| {seconds:.0f} s | {len(found)} | {len(spelled)} | {alone} | {right} | {took:.0f} s "
                f"| {seconds / took:.2f} | {peak:.0f} |"
            )
            peaks.append(peak)
        click.echo(f"\nThe long one's peak is {peaks[1] - peaks[0]:+.0f} MB of the short one's.")
        last = found[-1]
        click.echo(f"Its last sentence: {last['start']:.2f} to {last['end']:.2f} s, {last['text']!r}.")
        kept = Path(directory, "kept.json")
        after = min(30.0, took / 2)
        _, _, _, code = translate(long, "-o", str(kept), interrupt_after=after)
        lines = kept.read_text().splitlines() if kept.is_file() else []
        same = [json.loads(line)["text"] for line in lines] == [s["text"] for s in found[: len(lines)]]
        kind = "the same" if same else "others"
        click.echo(f"Ctrl-C after {after:.0f} s: exit code {code}, {len(lines)} sentences kept, {kind}.")


if __name__ == "__main__":
    main()
