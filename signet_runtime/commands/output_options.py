"""What `signet-translate` writes, where, and how sure it has to be: its options, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click

from signet_runtime.bundle import Bundle
from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit
from signet_runtime.options import DEFAULTS, TranslatorOptions
from signet_runtime.outputs.formats import FORMATS
from signet_runtime.overlay.writer import SUFFIXES as OVERLAY_SUFFIXES
from signet_runtime.pose.files import is_keypoints

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path)

_OUTPUT = (
    click.option(
        "--format",
        "form",
        type=click.Choice(list(FORMATS)),
        default="text",
        show_default=True,
        help="text: one line a sentence, in order, an empty one where an input failed. json, jsonl: one object a line. "
        "tsv: a line a sentence. srt, vtt, eaf: subtitles, or ELAN's tiers, of one input.",
    ),
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        type=_FILE,
        help="Write there instead of stdout; until all is done, to FILE.part.",
    ),
    click.option(
        "--output-dir",
        metavar="DIR",
        type=_FILE,
        help="Write a file for every INPUT there, called as it is; with its folders where two would be the same.",
    ),
    click.option("--keypoints-out", metavar="FILE.npz", type=_FILE, help="Also keep the keypoints of the one input."),
    click.option(
        "--overlay",
        metavar="FILE.mp4",
        type=_FILE,
        help="Also write the one input's video with its skeleton, its sentences and the weights of the experts.",
    ),
    click.option(
        "--all-frames",
        is_flag=True,
        help="Find keypoints in every frame of a video, not only in those that the model reads: for --keypoints-out "
        "and --overlay.",
    ),
)

_CERTAINTY = (
    click.option(
        "--n-best",
        metavar="N",
        type=click.IntRange(min=1),
        default=DEFAULTS["n_best"],
        show_default=True,
        help="Find so many texts; the others are alternatives in the JSON.",
    ),
    click.option(
        "--min-confidence",
        metavar="X",
        type=click.FloatRange(0, 1),
        default=DEFAULTS["min_confidence"],
        show_default=True,
        help="Leave out texts whose reliability is below, from 0 to 1; they are empty, and suppressed in the JSON.",
    ),
    click.option(
        "--piece-times",
        is_flag=True,
        help="Say about where in the clip each piece of a text was read: in the JSON, as words in vtt and eaf.",
    ),
)


class Outputs(TypedDict):
    """Where things are written, as `output_options` take it."""

    output: Path | None
    output_dir: Path | None
    keypoints_out: Path | None
    overlay: Path | None


def output_options(command: _Command) -> _Command:
    """Add the options that say what is written, and where."""
    return _add(_OUTPUT, command)


def certainty_options(command: _Command) -> _Command:
    """Add the options that say how sure a text has to be, and what is told of that."""
    return _add(_CERTAINTY, command)


def _add(options: tuple[Callable[[_Command], _Command], ...], command: _Command) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def check_asked(limit: str, value: int, option: str) -> None:
    """See that an option asks for no more than a limit, see `signet_runtime.limits`.

    Raises:
        UsageError: it does.
    """
    try:
        check_limit(limit, value, option, InputError)
    except InputError as error:
        raise click.UsageError(f"{error}.") from error


def check_beams(bundle: Bundle, options: TranslatorOptions) -> None:
    """See that a search finds as many texts as are asked for, and has no more beams than there may be.

    Raises:
        UsageError: it has fewer, or more.
    """
    beams = options["num_beams"] or bundle.manifest.generation.num_beams
    check_asked("beams", beams, "--beams")
    if options["n_best"] > beams:
        raise click.UsageError(
            f"--n-best {options['n_best']}: a search with {beams} beams finds no more than {beams}; give --beams N."
        )


def check_outputs(inputs: tuple[Path, ...], camera: str | None, form: str, to: Outputs) -> None:
    """See that the outputs fit the inputs and each other.

    Raises:
        UsageError: they do not.
    """
    several = len(inputs) > 1
    output, output_dir, keypoints_out, overlay = to["output"], to["output_dir"], to["keypoints_out"], to["overlay"]
    if output is not None and output_dir is not None:
        raise click.UsageError("Give -o FILE, or --output-dir DIR, and not both.")
    if output_dir is not None and camera is not None:
        raise click.UsageError("--output-dir has a file for every INPUT; give -o FILE with --camera.")
    if several and output_dir is None and FORMATS[form]().one_input:
        raise click.UsageError(f"--format {form} holds one input; run it once for each, or give --output-dir.")
    if keypoints_out is not None:
        if several:
            raise click.UsageError("--keypoints-out holds the keypoints of one input; run it once for each.")
        if keypoints_out.suffix != ".npz":
            raise click.UsageError("--keypoints-out must end in .npz.")
    if overlay is not None:
        if several:
            raise click.UsageError("--overlay is the video of one input; run it once for each.")
        if camera is not None or is_keypoints(inputs[0]):
            raise click.UsageError("--overlay draws on a video file; what a camera sees or keypoints alone has none.")
        if overlay.suffix.lower() not in OVERLAY_SUFFIXES:
            raise click.UsageError(f"--overlay must end in {', '.join(OVERLAY_SUFFIXES)}.")
    files = [path for path in (output, keypoints_out, overlay) if path is not None]
    for written in files:
        if written.resolve() in [path.resolve() for path in inputs]:
            raise click.UsageError(f"{written} is an input and would be overwritten.")
    if len({path.resolve() for path in files}) < len(files):
        raise click.UsageError(f"{files[-1]} is given for two things that are written.")
