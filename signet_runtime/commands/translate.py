"""`signet-translate`: results on stdout, everything else on stderr, one line for each thing that went wrong."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, Unpack

import click

from signet_runtime.bundle import ENGINE_CHOICES, Bundle
from signet_runtime.commands.console import debug_option, exit_on_error, own_stderr, own_stdout
from signet_runtime.commands.inputs import SentenceOptions, name_problem, translate_all, translate_live
from signet_runtime.commands.models import named_bundle
from signet_runtime.commands.output_options import (
    certainty_options,
    check_asked,
    check_beams,
    check_outputs,
    output_options,
)
from signet_runtime.commands.side_by_side import translate_side_by_side
from signet_runtime.errors import ExitCode
from signet_runtime.files import GrowingFile, check_writable
from signet_runtime.generation import DECODER_BACKENDS
from signet_runtime.options import DEFAULTS, TranslatorOptions
from signet_runtime.outputs.results import OneOutput, OutputDirectory, names_of_outputs
from signet_runtime.pose.estimators import estimator_choices, takes_option
from signet_runtime.pose.signer import CHOICES as SIGNER_CHOICES
from signet_runtime.sentences.segmenter import Pauses

if TYPE_CHECKING:
    from signet_runtime.translator import Translator

_POSITIVE = click.FloatRange(min=0, min_open=True)

_RATE = click.FloatRange(min=0.01, max=1000)


def _check_signer(_context: click.Context, _parameter: click.Parameter, signer: str) -> str:
    if signer not in SIGNER_CHOICES and not (signer.isdecimal() and int(signer) > 0):
        raise click.BadParameter(f"{signer!r} is none of {', '.join(SIGNER_CHOICES)}, nor a number from 1")
    return signer


EPILOG = """
\b
Examples:
  signet-translate video.mp4                      the text, on stdout
  signet-translate --model openasl video.mp4      by a model that is fetched once, see signet-models
  signet-translate *.mp4 --format json > all.jsonl
  signet-translate talk.mp4 --format srt -o talk.srt
  signet-translate video.mp4 --keypoints-out video.npz
  signet-translate video.npz                      the same, without the pose estimator
  signet-translate video.mp4 --overlay seen.mp4   the video with what was seen and said
  signet-translate *.mp4 --format eaf --output-dir tiers --jobs 4
  signet-translate *.mp4 --min-confidence 0.5     what is not sure is left out
  signet-translate lecture.mp4 --cut always --format srt
  signet-translate --camera 0                     a line a sentence, until Ctrl-C
  signet-translate --camera rtsp://camera/stream --format json --partial 2

\b
Sentences:
  A video is one sentence if the model can read it whole, thinned to half its frames at most, as in training. A
  longer one, and what a camera sees, is cut where both hands are down for --rest seconds, or still for --pause.

\b
Exit codes:
  0    done
  2    usage
  3    an input cannot be used (not a video, damaged, empty, no signer found), or an output cannot be written
  4    the bundle is missing, damaged, or of an unknown version
  5    an engine, device, pose estimator or model is not available (signet-doctor says why)
  70   a defect of signet-translate itself; --debug shows where
  130  interrupted; what was translated so far is kept
With several inputs the others are still done, and the code is that of the first that failed.
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("inputs", metavar="[INPUT...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--camera",
    metavar="SOURCE",
    help="Translate live, in place of INPUT: a camera's number or device, rtsp://… or another URL, a named pipe, - for "
    "standard input. A video file is played at its own speed.",
)
@click.option(
    "--bundle",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The exported model.  [default: the demonstration that comes with the package]",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="A model by name (signet-models list), hf:ORG/NAME[@REVISION], or https://….signet#sha256=…, in place of "
    "--bundle; fetched if it is not here.",
)
@click.option(
    "--pose",
    type=click.Choice(estimator_choices()),
    default=DEFAULTS["pose"],
    show_default=True,
    help="Who finds the keypoints in a video; auto takes the estimator that the model was trained on, if it can run.",
)
@click.option(
    "--pose-weights", metavar="DIR", type=click.Path(path_type=Path), help="Where RTMPose's weight files are."
)
@click.option(
    "--detect-every",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULTS["detect_every"],
    show_default="1 on a GPU, on a CPU by what it costs there",
    help="RTMPose looks for people in every N-th frame and holds the signer's box between; sooner where it is lost.",
)
@output_options
@certainty_options
@click.option(
    "--cut",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Cut an input into sentences; auto cuts those that are too long to be one.",
)
@click.option(
    "--rest",
    metavar="SECONDS",
    type=_POSITIVE,
    default=Pauses.rest,
    show_default=True,
    help="Both hands down for so long end a sentence.",
)
@click.option(
    "--pause",
    metavar="SECONDS",
    type=_POSITIVE,
    default=Pauses.pause,
    show_default=True,
    help="Both hands still for so long end a sentence.",
)
@click.option(
    "--still",
    metavar="SPEED",
    type=_POSITIVE,
    default=Pauses.still,
    show_default=True,
    help="Hands up to this fast are still, in shoulder widths a second.",
)
@click.option(
    "--partial",
    metavar="SECONDS",
    type=_POSITIVE,
    help="Show what there is of a sentence every so often: on stderr, or with --format json as objects that are not "
    "complete.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default=DEFAULTS["device"], show_default=True)
@click.option(
    "--engine",
    type=click.Choice(ENGINE_CHOICES),
    default=DEFAULTS["engine"],
    show_default=True,
    help="What of the bundle runs: ONNX Runtime on DEVICE, or its TensorRT engines.",
)
@click.option(
    "--generation",
    type=click.Choice(DECODER_BACKENDS),
    help="What searches for the text: the two write the same, optimum is the reference, needs signet-slt[optimum] and "
    "drives TensorRT engines.  [default: fast; on a GPU optimum]",
)
@click.option(
    "--beams",
    "num_beams",
    metavar="N",
    type=click.IntRange(min=1),
    help="Width of the search.  [default: the bundle's]",
)
@click.option(
    "--signer",
    metavar="WHO",
    default=DEFAULTS["signer"],
    show_default=True,
    callback=_check_signer,
    help="Whom to follow among several people: active, who moves their hands most; largest, left, right, or the number "
    "of one from the left.",
)
@click.option(
    "--track",
    metavar="N",
    type=click.IntRange(min=1),
    help="Which video track of a file to read.  [default: the default one, or the one with most pictures]",
)
@click.option(
    "--fps", metavar="RATE", type=_RATE, help="Frames a second of keypoints that do not state it.  [default: 25]"
)
@click.option(
    "--speed",
    metavar="FACTOR",
    type=_RATE,
    default=DEFAULTS["speed"],
    show_default=True,
    help="How fast the recording plays what was signed: 0.25 for slow motion that takes four times as long.",
)
@click.option(
    "--isolate",
    is_flag=True,
    help="For files of strangers: decode videos in a process of their own that can reach nothing but the file.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Translate so many inputs side by side, each in a process with a model of its own.",
)
@click.option("--offline", is_flag=True, envvar="SIGNET_OFFLINE", help="Never download weights (or SIGNET_OFFLINE=1).")
@click.option("--verify", is_flag=True, help="Check the contents of all files in the bundle again.")
@click.option(
    "--trust-engines",
    is_flag=True,
    help="Run TensorRT engines that were built elsewhere, which are code; remembered for these engines.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress, notes or warnings; errors only.")
@debug_option
@click.version_option(package_name="signet-slt")
@exit_on_error("signet-translate")
def main(
    inputs: tuple[Path, ...],
    camera: str | None,
    bundle: Path | None,
    model: str | None,
    form: str,
    output: Path | None,
    output_dir: Path | None,
    keypoints_out: Path | None,
    overlay: Path | None,
    all_frames: bool,
    jobs: int,
    cut: str,
    rest: float,
    pause: float,
    still: float,
    partial: float | None,
    verify: bool,
    trust_engines: bool,
    quiet: bool,
    **options: Unpack[TranslatorOptions],
) -> None:
    """Translate sign-language videos to text, or live what a camera sees.

    INPUT is a video, or keypoints in place of one: a file (.npz, .pose, .pkl, .h5, .npy, .parquet, .json), or a folder
    of OpenPose's JSON files or MediaPipe's arrays.
    """
    if (camera is None) == (not inputs):
        raise click.UsageError("Give INPUT, or --camera SOURCE, and not both.")
    if bundle is not None and model is not None:
        raise click.UsageError("Give --bundle DIR or --model MODEL, not both.")
    check_outputs(
        inputs,
        camera,
        form,
        {"output": output, "output_dir": output_dir, "keypoints_out": keypoints_out, "overlay": overlay},
    )
    if all_frames and (camera is not None or (keypoints_out is None and overlay is None)):
        raise click.UsageError("--all-frames is for --keypoints-out and --overlay of a video.")
    if options["isolate"] and overlay is not None:
        raise click.UsageError("--overlay takes the sound from the file itself: not with --isolate.")
    check_asked("jobs", jobs, "--jobs")
    if jobs > 1 and (partial is not None or camera is not None):
        raise click.UsageError("--jobs is for several files that are there, and shows nothing before a file is done.")
    if (options["detect_every"] or 1) > 1 and not takes_option(options["pose"], "detect_every"):
        raise click.UsageError("--detect-every is RTMPose's; MediaPipe tracks in a way of its own.")

    if model is not None and (camera is not None or any(name_problem(path) is None for path in inputs)):
        bundle = named_bundle("signet-translate", model, options["offline"], quiet)

    if trust_engines:
        Bundle.load(bundle, verify=True).trust_engines()

    def load() -> Translator:
        # The bundle is checked before the seconds that loading the libraries takes.
        checked = Bundle.load(bundle, verify=verify)
        check_beams(checked, options)
        from signet_runtime.translator import Translator

        return Translator(checked, **options)

    sentence_options: SentenceOptions = {
        "pauses": Pauses(rest, pause, still),
        "partial": partial,
        "keypoints_out": keypoints_out,
        "overlay": overlay,
        "all_frames": all_frames,
    }
    code: int = ExitCode.DONE  # also where the reader has what it wanted, and closes the pipe
    with (
        contextlib.suppress(BrokenPipeError),
        own_stdout() as stdout,
        own_stderr(quiet),
        _destination(inputs, form, output, output_dir, (keypoints_out, overlay), stdout) as to,
    ):
        if camera is not None:
            code = translate_live(camera, load, to, sentence_options, quiet)
        elif jobs > 1 and len(inputs) > 1:
            code = translate_side_by_side(inputs, bundle, verify, options, to, sentence_options, cut, quiet, jobs)
        else:
            code = translate_all(inputs, load, to, sentence_options, cut, quiet)
    sys.exit(code)


@contextlib.contextmanager
def _destination(
    inputs: tuple[Path, ...],
    form: str,
    output: Path | None,
    output_dir: Path | None,
    others: tuple[Path | None, ...],
    stdout: TextIO,
) -> Iterator[OneOutput | OutputDirectory]:
    """Open where results go; a file is finished however the run ends."""
    for written in filter(None, (output, *others)):
        check_writable(written)
    if output_dir is not None:
        yield OutputDirectory(form, names_of_outputs(inputs, output_dir, form))
        return
    file = None if output is None else GrowingFile(output)
    to = OneOutput(form, stdout if file is None else file)
    try:
        yield to
    finally:
        try:
            to.end()
        finally:
            if file is not None:
                file.finish()


if __name__ == "__main__":
    main()
