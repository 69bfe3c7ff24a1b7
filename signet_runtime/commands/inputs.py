"""Inputs of `signet-translate`, one after another: files that are there, or a source that is live."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from signet_runtime.commands.console import complain
from signet_runtime.errors import InputError, SignetError
from signet_runtime.pose.files import is_keypoints
from signet_runtime.progress import Bar
from signet_runtime.sentences.segmenter import Pauses

if TYPE_CHECKING:
    from signet_runtime.outputs.results import OneOutput, OutputDirectory, Results
    from signet_runtime.translation import Translation
    from signet_runtime.translator import Translator


class SentenceOptions(TypedDict):
    """Keywords of `Translator.sentences`."""

    pauses: Pauses
    partial: float | None
    keypoints_out: Path | None
    overlay: Path | None
    all_frames: bool


def translate_all(
    inputs: tuple[Path, ...],
    load: Callable[[], Translator],
    to: OneOutput | OutputDirectory,
    sentence_options: SentenceOptions,
    cut: str,
    quiet: bool,
) -> int:
    """Translate and write every input; return the exit code."""
    problems = {path: name_problem(path) for path in inputs}
    code = 0
    with contextlib.ExitStack() as stack:
        # What fails here is no input's fault and ends the run.
        translator = stack.enter_context(load()) if None in problems.values() else None
        for path in inputs:
            try:
                with to.of(path) as results:
                    try:
                        if translator is None or problems[path]:
                            raise InputError(f"{path}: {problems[path]}")
                        whole = as_one_sentence(translator.bundle.manifest.max_frames, cut)
                        with (
                            Bar(path.name, quiet) as bar,
                            contextlib.closing(
                                translator.sentences(path, whole=whole, progress=bar.update, **sentence_options)
                            ) as sentences,
                        ):
                            for translation in sentences:
                                with bar.hidden():
                                    _give(results, path, translation, quiet)
                    except SignetError as error:
                        if results.broken:
                            raise
                        code = code or error.exit_code
                        complain("signet-translate", error)
                        results.fail(str(path), error, alone=len(inputs) == 1)
            except SignetError as error:
                if to.broken:
                    raise
                code = code or error.exit_code
                complain("signet-translate", error)
    return code


def as_one_sentence(max_frames: int, cut: str) -> int | None:
    """Return up to how many frames an input is one sentence, None of any length, by `--cut`."""
    return {"auto": 2 * max_frames, "always": 0, "never": None}[cut]


def translate_live(
    camera: str,
    load: Callable[[], Translator],
    to: OneOutput | OutputDirectory,
    sentence_options: SentenceOptions,
    quiet: bool,
) -> int:
    """Translate until the source ends, or is ended by Ctrl-C or SIGTERM; return the exit code."""
    from signet_runtime.sources.live import Live, locate

    locate(camera)  # a camera that is not there is known before the seconds of loading
    signed = False
    with load() as translator, to.of(Path(camera)) as results:
        _ = translator.estimator  # loads before the camera starts, whose first seconds would be lost
        with Live(camera, translator.bundle.manifest.frame_rate) as live, _ended_by_signals(live.stop):
            if not quiet:
                width, height = live.info.size
                click.echo(f"signet-translate: {live.name}, {width}x{height}; Ctrl-C ends it", err=True)
            with contextlib.closing(translator.sentences(live, **sentence_options)) as sentences:
                for translation in sentences:
                    signed = True
                    _give(results, camera, translation, quiet)
    if not signed and not quiet:
        click.echo(f"signet-translate: {live.name}: nobody signed", err=True)
    return 0


def _give(results: Results, source: str | Path, translation: Translation, quiet: bool) -> None:
    results.add(str(source), translation)
    if not translation.complete and not quiet:
        click.echo(f"… {' '.join(translation.text.split())}", err=True)


@contextlib.contextmanager
def _ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM stop what runs, so that the open sentence is not lost; the second is as ever."""
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in ends]

    def as_ever() -> None:
        for number, handler in zip(ends, before, strict=True):
            signal.signal(number, handler)

    def handle(number: int, frame: object) -> None:
        as_ever()
        stop()

    for number in ends:
        signal.signal(number, handle)
    try:
        yield
    finally:
        as_ever()


def name_problem(path: Path) -> str | None:
    """Say what is wrong with an input, as far as it can be known before anything is loaded."""
    try:
        if path.is_dir() and not is_keypoints(path):
            return "is a directory; give the videos in it"
        return None if path.exists() else "no such file"
    except (OSError, ValueError) as error:  # a name that is too long, or a folder that may not be looked into
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
