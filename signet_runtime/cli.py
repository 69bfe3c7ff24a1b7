"""`signet-translate`: results on stdout, everything else on stderr, one line for each thing that went wrong."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from signet_runtime.errors import InputError, SignetError
from signet_runtime.outputs.files import OutputError, check_writable, reporting, whole_file
from signet_runtime.pose.estimator import CHOICES

if TYPE_CHECKING:
    from signet_runtime.translator import Translation, Translator

INTERRUPTED = 130

EPILOG = """
\b
Examples:
  signet-translate video.mp4                      the text, on stdout
  signet-translate *.mp4 --format json > all.jsonl
  signet-translate talk.mp4 --format srt -o talk.srt
  signet-translate video.mp4 --keypoints-out video.npz
  signet-translate video.npz                      the same, without the pose estimator

\b
Exit codes:
  0    done
  2    usage
  3    an input cannot be used (not a video, damaged, empty, no signer found), or an output cannot be written
  4    the bundle is missing, damaged, or of an unknown version
  5    an engine, device or pose estimator is not available (signet-doctor says why)
  130  interrupted
With several inputs the others are still done, and the code is that of the first that failed.
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--bundle", metavar="DIR", type=click.Path(path_type=Path),
    help="The exported model.  [default: the demonstration that comes with the package]",
)  # fmt: skip
@click.option(
    "--pose", type=click.Choice(CHOICES), default="auto", show_default=True,
    help="Who finds the keypoints in a video; auto takes the estimator that the model was trained on, if it can run.",
)  # fmt: skip
@click.option(
    "--pose-weights", metavar="DIR", type=click.Path(path_type=Path), help="Where RTMPose's weight files are."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "srt", "vtt"]), default="text", show_default=True,
    help="text: one line an input, in order, empty where an input failed. json: one object a line. "
    "srt, vtt: subtitles of one input.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
    help="Write there instead of stdout, whole or not at all.",
)  # fmt: skip
@click.option(
    "--keypoints-out", metavar="FILE.npz", type=click.Path(path_type=Path),
    help="Also keep the keypoints of the one input.",
)  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--engine", type=click.Choice(["onnx", "trt"]), default="onnx", show_default=True,
    help="What of the bundle runs: ONNX Runtime on DEVICE, or its TensorRT engines.",
)  # fmt: skip
@click.option("--beams", metavar="N", type=click.IntRange(min=1), help="Width of the search.  [default: the bundle's]")
@click.option("--offline", is_flag=True, envvar="SIGNET_OFFLINE", help="Never download weights (or SIGNET_OFFLINE=1).")
@click.option("--verify", is_flag=True, help="Check the contents of all files in the bundle again.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, notes or warnings; errors only.")
@click.version_option(package_name="signet-slt")
def main(
    inputs: tuple[Path, ...],
    bundle: Path | None,
    pose: str,
    pose_weights: Path | None,
    form: str,
    output: Path | None,
    keypoints_out: Path | None,
    device: str,
    engine: str,
    beams: int | None,
    offline: bool,
    verify: bool,
    quiet: bool,
) -> None:
    """Translate sign-language videos to text.

    INPUT is a video with one signer, or a keypoint file (.npz, .pose, .pkl) in place of one.
    """
    if form in ("srt", "vtt") and len(inputs) > 1:
        raise click.UsageError(f"--format {form} holds the subtitles of one input; run it once for each.")
    if keypoints_out is not None:
        if len(inputs) > 1:
            raise click.UsageError("--keypoints-out holds the keypoints of one input; run it once for each.")
        if keypoints_out.suffix != ".npz":
            raise click.UsageError("--keypoints-out must end in .npz.")
    for written in filter(None, (output, keypoints_out)):
        if written.resolve() in [path.resolve() for path in inputs]:
            raise click.UsageError(f"{written} is an input and would be overwritten.")

    def load() -> Translator:
        from signet_runtime.bundle import Bundle

        # The bundle is checked before the seconds that loading the libraries takes.
        checked = Bundle.load(bundle, verify=verify)
        from signet_runtime.translator import Translator

        return Translator(
            checked,
            device=device,
            pose=pose,
            pose_weights=pose_weights,
            offline=offline,
            num_beams=beams,
            engine=engine,
        )

    try:
        with _own_stdout() as stdout, _own_stderr(quiet):
            code = _translate_all(inputs, load, form, output, keypoints_out, quiet, stdout)
    except SignetError as error:
        _complain(error)
        code = error.exit_code
    except BrokenPipeError:
        code = 0  # the reader has what it wanted
    except KeyboardInterrupt:
        click.echo("signet-translate: interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code)


def _translate_all(
    inputs: tuple[Path, ...],
    load: Callable[[], Translator],
    form: str,
    output: Path | None,
    keypoints_out: Path | None,
    quiet: bool,
    stdout: TextIO,
) -> int:
    """Translate and write every input; return the exit code."""
    for written in filter(None, (output, keypoints_out)):
        check_writable(written)
    kept = io.StringIO()  # for -o, which is written at the end
    results = stdout if output is None else kept
    problems = {path: _name_problem(path) for path in inputs}
    code, done = 0, 0
    with contextlib.ExitStack() as stack:
        # What fails here is no input's fault and ends the run.
        translator = stack.enter_context(load()) if None in problems.values() else None
        for path in inputs:
            try:
                if translator is None or problems[path]:
                    raise InputError(f"{path}: {problems[path]}")
                with _progress(path, quiet) as progress:
                    translation = translator.translate(path, keypoints_out=keypoints_out, progress=progress)
            except SignetError as error:
                code = code or error.exit_code
                _complain(error)
                result = _failed(form, path, error, alone=len(inputs) == 1)
            else:
                done += 1
                result = _formatted(form, path, translation)
            with reporting("standard output"):
                results.write(result)
                results.flush()
    if output is not None and done:
        with whole_file(output) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(kept.getvalue())
    return code


def _name_problem(path: Path) -> str | None:
    """What is wrong with an input that can be known before anything is loaded."""
    if path.is_dir():
        return "is a directory; give the videos in it"
    if not path.exists():
        return "no such file"
    return None


def _formatted(form: str, path: Path, translation: Translation) -> str:
    if form == "json":
        from signet_runtime.outputs.json_lines import to_json

        return to_json(str(path), translation) + "\n"
    if form in ("srt", "vtt"):
        from signet_runtime.outputs.subtitles import to_srt, to_vtt

        return (to_srt if form == "srt" else to_vtt)([translation])
    return " ".join(translation.text.split()) + "\n"


def _failed(form: str, path: Path, problem: SignetError, *, alone: bool) -> str:
    if form == "json":
        from signet_runtime.outputs.json_lines import error_to_json

        return error_to_json(str(path), str(problem)) + "\n"
    # An empty line keeps the lines beside their inputs; a single input has nothing to be beside.
    return "" if alone else "\n"


def _complain(error: SignetError) -> None:
    click.echo(f"signet-translate: error: {' '.join(str(error).split())}", err=True)


@contextlib.contextmanager
def _progress(path: Path, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(path.name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """The real standard output for results; whatever else is printed, from C too, goes to standard error."""
    if sys.stdout is None:
        raise OutputError("standard output is closed; give -o FILE")
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # replaced by an object in memory: nothing written from C can reach it
        in_memory = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield in_memory
        return
    sys.stdout.flush()
    saved = os.dup(descriptor)
    # A file name that is not valid Unicode must not end the run; in JSON this is even its escape.
    results = open(os.dup(saved), "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    os.dup2(2, descriptor)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield results
    finally:
        with contextlib.suppress(OSError):  # every write was flushed and reported
            results.close()
        os.dup2(saved, descriptor)
        os.close(saved)


@contextlib.contextmanager
def _own_stderr(quiet: bool) -> Iterator[None]:
    """Our warnings as single lines on standard error, and of other libraries only what matters."""
    # Everything is on this machine; the hub libraries must not even ask. Read when they are imported.
    for name, value in {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}.items():
        os.environ.setdefault(name, value)
    logger = logging.getLogger("signet_runtime")
    handler = _OneLine(logging.ERROR if quiet else logging.WARNING)
    propagate, logger.propagate = logger.propagate, False  # other libraries put handlers on the root
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


class _OneLine(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"signet-translate: {record.levelname.lower()}: {record.getMessage()}", err=True)


if __name__ == "__main__":
    main()
