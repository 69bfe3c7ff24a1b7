"""One process for very long: a day of live input, and a thousand videos, in memory that does not grow.

    python -m benchmarks.long_life                        24 hours and 1,000 videos: a quarter of an hour
    python -m benchmarks.long_life --hours 1 --videos 50
    python -m benchmarks.long_life --isolate              each video in a process of its own

The day is somebody who spells a word, holds still, and spells it again, given as keypoints as fast as they are taken,
on the path that a camera's take once they are found. The videos are the examples' first second. The same is said again
and again, so every text is held to the first one. Memory is this process's peak, as the operating system counts it.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import click

from signet_runtime import Translator
from signet_runtime.sentences.keypoints import PoseStream, extract_poses
from signet_runtime.sentences.segmenter import PosedFrame

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.mp4"))
_HELD = 1.6  # seconds for which the signer holds still
_WARM = 20  # videos before memory is looked at: by then every buffer has been as large as it gets

# More than this in the rest of the time is growth (MB).
MOST = 20.0


def peak() -> float:
    """Return the most memory that this process had so far (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def day(translator: Translator, hours: float) -> tuple[PoseStream, int]:
    """Return the keypoints of so many hours, and how many sentences are in them."""
    clock = translator.bundle.manifest.frame_rate
    assert clock is not None
    word = extract_poses(EXAMPLES[0], translator.estimator, frame_rate=clock)
    held = round(_HELD * clock)
    turns = round(hours * 3600 * clock / (len(word) + held))

    def frames() -> Iterator[PosedFrame]:
        number = 0
        for _ in range(turns):
            for i in [*range(len(word)), *[len(word) - 1] * held]:
                yield PosedFrame(number / clock, word.keypoints[i], word.scores[i], 1, time.perf_counter())
                number += 1

    return PoseStream(frames(), clock, word.size, word.source), turns


def first_second(source: Path, target: Path) -> Path:
    """Write what is shown in a video's first second, without encoding it again."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        made = out.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.pts is not None and packet.time_base is not None and packet.pts * packet.time_base < 1:
                packet.stream = made
                out.mux(packet)
    return target


def live(translator: Translator, hours: float) -> bool:
    """Print what a day does to memory; whether it was as it should be."""
    stream, expected = day(translator, hours)
    begun, texts, early = time.perf_counter(), set(), 0.0
    number = 0
    for sentence in translator.sentences(stream):
        number += 1
        # The first begins with the recording, the others with the hands' way back.
        if number > 1:
            texts.add(sentence.text)
        if sentence.start < hours * 3600 / 24:
            early = peak()
    grown = peak() - early
    click.echo(
        f"{hours:g} hours in {time.perf_counter() - begun:.0f} s: {number} of {expected} sentences, "
        f"{len(texts)} texts, peak {peak():.0f} MB, {grown:+.1f} MB after the first twenty-fourth"
    )
    return number == expected and len(texts) <= 1 and grown < MOST


def videos(translator: Translator, count: int) -> bool:
    """Print what so many videos do to memory; whether it was as it should be."""
    begun, early = time.perf_counter(), 0.0
    said: dict[Path, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        clips = [first_second(example, Path(directory, example.name)) for example in EXAMPLES]
        for number in range(count):
            clip = clips[number % len(clips)]
            text = " ".join(sentence.text for sentence in translator.sentences(clip))
            if said.setdefault(clip, text) != text:
                click.echo(f"video {number}: {text!r} in place of {said[clip]!r}")
                return False
            if number < _WARM:
                early = peak()
    grown = peak() - early
    click.echo(
        f"{count} videos in {time.perf_counter() - begun:.0f} s: always the same texts, peak {peak():.0f} MB, "
        f"{grown:+.1f} MB after the first {_WARM}"
    )
    return grown < MOST


@click.command()
@click.option("--hours", default=24.0, show_default=True, type=click.FloatRange(min=0.1))
@click.option("--videos", "count", default=1000, show_default=True, type=click.IntRange(min=_WARM))
@click.option("--isolate", is_flag=True, help="Decode each video in a process of its own.")
def main(hours: float, count: int, isolate: bool) -> None:
    """Translate for HOURS, then VIDEOS; ends with 1 where memory grew, or a text changed."""
    with Translator(isolate=isolate, num_beams=1) as translator:
        good = [live(translator, hours), videos(translator, count)]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
