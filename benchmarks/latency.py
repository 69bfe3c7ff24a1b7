"""What SIGNET costs on this machine: the paper's Table 5, and from a video to its text, beside what else there is.

    python -m benchmarks.latency                          everything
    python -m benchmarks.latency --quick                  in under ten minutes on 2 cores
    python -m benchmarks.latency --peer unisign=Uni-Sign --peer geosign=Geo-Sign --markdown FILE --json FILE --plot FILE

This file is the command line, and the order of things. In `latency_sections`, `parameters` and `table5` measure
training beside the `peers`, `engines` and `inference` a clip through every engine, `whole_path` videos, `alternatives`
what a user would have without us.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if not __package__:  # run as a file: Python looks for modules beside it, and the project is one up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if TYPE_CHECKING:
    import torch

    from benchmarks.measuring.report import Report

_PROJECT = Path(__file__).resolve().parents[1]
_SWEEP = (64, 128, 256)

PARTS = {
    "parameters": "the modules' counts beside Table 5's",
    "training": "Table 5's latency: forward and backward of a batch of 8",
    "engines": "encoder and decoder of a clip, by engine, k and beams",
    "video": "from a video to its text, and from its last frame",
    "decoder": "the decoder beside CTranslate2's",
    "start": "start-up and memory of signet-translate",
}


@dataclass(frozen=True)
class Plan:
    """What is measured, and how thoroughly.

    Attributes:
        frames: of a training clip.
        rounds: of everything.
        backward_rounds: of forward with backward, and of whole training steps.
        precisions: of training, those of them that the device computes natively.
        peers: checkouts of their public code, by name.
    """

    parts: tuple[str, ...]
    device: str
    videos: tuple[Path, ...]
    pose_weights: Path | None
    peers: dict[str, Path]
    frames: int
    rounds: int
    backward_rounds: int
    precisions: tuple[str, ...]
    quick: bool
    small: bool


@click.command(
    epilog="\b\nParts:\n" + "\n".join(f"  {name:11} {what}" for name, what in PARTS.items()),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--quick", is_flag=True, help="Under ten minutes on 2 cores: fewer rounds, shorter clips, no compiling.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--only",
    "parts",
    metavar="PART",
    multiple=True,
    type=click.Choice(list(PARTS)),
    help="One of the parts below; repeat for several.  [default: all]",
)
@click.option(
    "--peer",
    "peers",
    metavar="NAME=PATH",
    multiple=True,
    help="Measure a peer from a checkout of its public code: unisign (github.com/ZechengLi19/Uni-Sign; its RGB branch "
    "needs einops), geosign (github.com/ed-fish/Geo-Sign; needs geoopt), or signet, the authors' own code "
    "(github.com/elsobhano/SIGNET; needs unisign, too), which adds whole training steps. Repeat for several.",
)
@click.option(
    "--video",
    "videos",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A video with one signer; repeat for several.  [default: examples/*.mp4]",
)
@click.option(
    "--pose-weights",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="RTMPose's detector.onnx and pose.onnx: the videos go through RTMPose too.",
)
@click.option("--frames", type=click.IntRange(min=8), help="Of a training clip.  [default: 128; with --quick 64]")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    help="Of everything; with backward at most 3.  [default: 5; with --quick 2, with backward 1]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "bf16"]),
    help="Of training, where the device computes it natively; repeat for both.  [default: both; on a CPU with --quick "
    "fp32]",
)
@click.option(
    "--json", "json_file", metavar="FILE", type=click.Path(path_type=Path), help="Also write all rounds there."
)
@click.option(
    "--markdown", "markdown_file", metavar="FILE", type=click.Path(path_type=Path), help="Also write the tables there."
)
@click.option(
    "--plot", "plot_file", metavar="FILE.png", type=click.Path(path_type=Path), help="Also draw medians there."
)
@click.option("--small", is_flag=True, help="Models of a few weights, to see in seconds that all of it runs.")
def main(
    quick: bool,
    device: str,
    parts: tuple[str, ...],
    peers: tuple[str, ...],
    videos: tuple[Path, ...],
    pose_weights: Path | None,
    frames: int | None,
    rounds: int | None,
    precisions: tuple[str, ...],
    json_file: Path | None,
    markdown_file: Path | None,
    plot_file: Path | None,
    small: bool,
) -> None:
    """Measure SIGNET's latency here: training as in the paper's Table 5, and translation from video to text.

    Tables go to stdout, progress to stderr. What is compared runs in turns, round after round. Ctrl-C prints what was
    measured until then.

    \b
    Example: python -m benchmarks.latency --quick
    Example: python -m benchmarks.latency --only training --device cuda --peer unisign=Uni-Sign

    \b
    Exit codes: 0 done, 2 usage, 3 a video or checkout unusable, 5 device not available, 130 interrupted.
    """  # noqa: D301
    # The libraries' advice is for those who call them.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    from signet_runtime.commands.console import complain
    from signet_runtime.errors import ExitCode, SignetError

    report: Report | None = None
    code: int = ExitCode.DONE
    began = time.monotonic()
    try:
        files = _Files(json_file, markdown_file, plot_file)
        files.check()
        plan = Plan(
            parts=parts or tuple(PARTS),
            device=_available(device),
            videos=_readable(videos or tuple(sorted((_PROJECT / "examples").glob("*.mp4")))),
            pose_weights=_loadable(pose_weights, device),
            peers=_checkouts(peers),
            frames=frames or (64 if quick else 128),
            rounds=rounds or (2 if quick else 5),
            backward_rounds=min(rounds or (1 if quick else 3), 3),
            precisions=precisions or (("fp32",) if quick and device == "cpu" else ("fp32", "bf16")),
            quick=quick,
            small=small,
        )
        from benchmarks.measuring.report import Report

        report = Report(shlex.join(["python", "-m", "benchmarks.latency", *sys.argv[1:]]), device)
        with contextlib.redirect_stdout(sys.stderr):
            measure(report, plan, lambda line: click.echo(f"{time.monotonic() - began:5.0f} s  {line}", err=True))
        report.notes.append(f"It took {(time.monotonic() - began) / 60:.1f} minutes.")
        files.write(report)
    except KeyboardInterrupt:
        click.echo("latency: interrupted; here is what was measured, no file was written", err=True)
        if report is not None:
            report.notes.append("Interrupted: not all rounds were run, and what is not in a table was not measured.")
        code = ExitCode.INTERRUPTED
    except SignetError as error:
        complain("latency", error)
        code = error.exit_code
    finally:
        if report is not None:
            click.echo(report.markdown(), nl=False)
    sys.exit(code)


def measure(report: Report, plan: Plan, tell: Callable[[str], None]) -> None:
    """Add the plan's tables to the report, filling them in place."""
    import torch

    device = torch.device(plan.device)
    if "parameters" in plan.parts:
        from benchmarks.latency_sections.parameters import parameters

        parameters(report, plan.peers)
    if "training" in plan.parts:
        from benchmarks.latency_sections import table5

        table5.latency(
            report,
            plan.peers,
            device,
            frames=plan.frames,
            sweep=() if plan.quick else _SWEEP,
            rounds=plan.rounds,
            backward_rounds=plan.backward_rounds,
            precisions=plan.precisions,
            small=plan.small,
            tell=tell,
        )
    if "engines" in plan.parts:
        _engines(report, plan, device, tell)
    if "video" in plan.parts:
        from benchmarks.latency_sections import whole_path

        whole_path.videos(
            report, plan.videos, plan.pose_weights, plan.device, rounds=plan.rounds, quick=plan.quick, tell=tell
        )
    if "decoder" in plan.parts:
        from benchmarks.latency_sections import alternatives

        alternatives.decoder(report, rounds=plan.rounds, quick=plan.quick, tell=tell)
    if "start" in plan.parts:
        from benchmarks.latency_sections import whole_path

        whole_path.start(report, plan.videos, rounds=plan.rounds, tell=tell)


def _engines(report: Report, plan: Plan, device: torch.device, tell: Callable[[str], None]) -> None:
    from benchmarks.latency_sections.engines import demo, paper_size
    from benchmarks.latency_sections.inference import encoders_and_decoders
    from signet_runtime.translator import Translator

    with tempfile.TemporaryDirectory() as scratch, Translator.from_bundle(None) as translator:
        tell("demo: reading a video")
        subjects = [demo(translator.read_poses(plan.videos[0]))]
        tell("making and exporting a model of paper size")
        subjects.append(paper_size(Path(scratch), plan.small, device, tell))
        encoders_and_decoders(report, subjects, device, rounds=plan.rounds, compiled=not plan.quick, tell=tell)


def _available(device: str) -> str:
    """Return the device, if PyTorch can use it; before minutes are spent."""
    from signet_runtime.errors import EngineError

    try:
        import tabulate  # noqa: F401
        import torch

        import signet_export  # noqa: F401
    except ImportError as error:
        raise EngineError(f"the benchmark needs signet-slt[train] ({error}); pip install -e '.[train]'") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("--device cuda: PyTorch sees no GPU here; install a CUDA build of it, or use --device cpu")
    return device


def _readable(videos: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the videos, if there are any and all of them can be opened."""
    from signet_runtime.errors import InputError
    from signet_runtime.sources.video import Video

    if not videos:
        raise InputError(f"{_PROJECT / 'examples'}: no videos there; name one with --video")
    for path in videos:
        with Video(path):
            pass
    return videos


def _loadable(weights: Path | None, device: str) -> Path | None:
    """RTMPose's weights, if they are that."""
    if weights is not None:
        from signet_runtime.pose.rtmpose.estimator import RTMPoseEstimator

        RTMPoseEstimator("balanced", offline=True, device=device, weights=weights).close()
    return weights


def _checkouts(peers: tuple[str, ...]) -> dict[str, Path]:
    from benchmarks.peers.models import read_checkouts

    try:
        return read_checkouts(peers)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--peer") from error


@dataclass(frozen=True)
class _Files:
    """What is written beside stdout."""

    json: Path | None
    markdown: Path | None
    plot: Path | None

    def check(self) -> None:
        from signet_runtime.files import check_writable

        for path in (self.json, self.markdown, self.plot):
            if path is not None:
                check_writable(path)
        if self.plot is not None and self.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise click.BadParameter(f"{self.plot}: name a .png, .svg or .pdf", param_hint="--plot")

    def write(self, report: Report) -> None:
        from benchmarks.measuring.plot import draw
        from signet_runtime.files import whole_file

        for path, text in ((self.json, report.json()), (self.markdown, report.markdown())):
            if path is not None:
                with whole_file(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")
        if self.plot is not None:
            with whole_file(self.plot) as temporary:
                draw(report, temporary)


if __name__ == "__main__":
    main()
