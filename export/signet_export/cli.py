"""signet-export: a checkpoint becomes a bundle that signet-translate runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from signet_runtime.commands.console import Commands, exit_on_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from signet_runtime.bundle import Bundle
    from signet_runtime.confidence.calibration import Calibration
    from signet_train.checkpoint import Checkpoint


class _Export(Commands):
    """`build` where no command is named; every failure is one line on stderr and the right exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] == ["--serve-with"]:
            args = ["serve-with", *args[1:]]
        return super().parse_args(ctx, args if args and args[0] in (*self.commands, "--version") else ["build", *args])

    def invoke(self, ctx: click.Context) -> object:
        with exit_on_error("signet-export", "interrupted; nothing was written", "train"):
            return super().invoke(ctx)


@click.group(cls=_Export, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="signet-slt")
def main() -> None:
    """Make bundles of checkpoints, look into them, and check them."""


@main.command()
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory of the bundle to write.")
@click.option(
    "--engine",
    type=click.Choice(["onnx", "trt"]),
    default="onnx",
    show_default=True,
    help="What runs the model; with trt the bundle has TensorRT engines beside the ONNX ones.",
)
@click.option(
    "--target",
    metavar="GPU",
    help="For --engine trt: this-gpu, rtx3090, or a compute capability as in sm86. "
    "[default: this machine's GPU, and sm86 where there is none]",
)
@click.option(
    "--routing",
    type=click.Choice(["topk", "dense", "pinned"]),
    default="topk",
    show_default=True,
    help="How experts are run, see below.",
)
@click.option("--top-k", type=click.IntRange(min=1), help="Experts that a clip is sent to. [default: the checkpoint's]")
@click.option(
    "--calibrate",
    "manifest",
    metavar="MANIFEST",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Samples by which --routing pinned chooses, and on which --vocabulary is compared; of their --split.",
)
@click.option(
    "--calibrate-confidence",
    "confidence_manifest",
    metavar="MANIFEST",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Samples that were not trained on, of its --split, by which the bundle learns how reliable its texts are.",
)
@click.option("--split", default="dev", show_default=True, help="Of the samples to calibrate with.")
@click.option(
    "--vocabulary",
    metavar="TEXT_FILE|lang:de,en",
    help="Keep only the pieces that this text, or these languages' most frequent words, are made of.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Of the large products: fp16 for GPUs, int8 for CPUs.",
)
@click.option(
    "--archive",
    metavar="FILE.signet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the bundle as one zstd-compressed file, to ship; tar --zstd -xf unpacks it.",
)
@click.option(
    "--card", is_flag=True, help="Also write README.md into the bundle: the card that a hub shows, to be completed."
)
@click.option("--licence", metavar="ID", help="Of the model, for --card: SPDX's id, such as cc-by-4.0.")
@click.option(
    "--scores",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `signet-train evaluate` printed, for --card.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
def build(
    checkpoint: Path | None,
    out: Path,
    engine: str,
    target: str | None,
    routing: Literal["topk", "dense", "pinned"],
    top_k: int | None,
    manifest: Path | None,
    confidence_manifest: Path | None,
    split: str,
    vocabulary: str | None,
    precision: Literal["fp32", "fp16", "int8"],
    archive: Path | None,
    card: bool,
    licence: str | None,
    scores: Path | None,
    force: bool,
) -> None:
    """Export CHECKPOINT (a directory that signet-train wrote; the embedded demo's if none is given) as a bundle.

    Experts, adapters, router and mT5 encoder become one ONNX graph, folded and with fewer products than the model was
    trained with; the mT5 decoder becomes two. Every export is compared with the PyTorch model on ragged random clips,
    encoder states within 1e-4 and the same tokens with 1 and 4 beams (fp16 and int8: within 1% and 10%); the bundle's
    verification.json tells how far they were apart. If they differ by more, nothing is written.

    A checkpoint that was trained with data.profile = "causal" has the experts in a graph of their own, which
    signet-translate runs while somebody signs; every expert then computes everything.

    \b
    Routing:
      topk    an expert that a clip is not sent to computes only what the router reads
      dense   every expert computes everything
      pinned  the experts that most samples of a manifest are sent to stay, the others leave the
              bundle; what that changes is printed before anything is written

    \b
    Examples:
      signet-export --out my-bundle
      signet-export runs/finetune/best --out my-bundle --top-k 1
      signet-export runs/finetune/best --out small --routing pinned --calibrate data/mine.parquet
      signet-export runs/finetune/best --out sure --calibrate-confidence data/mine.parquet
      signet-export runs/finetune/best --out german --vocabulary lang:de
      signet-export runs/finetune/best --out mine --card --licence cc-by-4.0 --scores scores.txt
      signet-export runs/finetune/best --out rtx --engine trt --target rtx3090
      signet-export inspect my-bundle
      signet-export verify my-bundle --against runs/finetune/best
      signet-translate --bundle my-bundle video.mp4

    \b
    Exit codes: 0 done, 2 usage, 3 samples, text or output unusable, 4 checkpoint invalid or parity failed,
    5 engine not available, 130 interrupted.
    """  # noqa: D301
    if target is not None and engine != "trt":
        raise click.UsageError("--target is for --engine trt")
    if engine == "trt" and precision == "int8":
        raise click.UsageError("--precision int8 is for CPUs; TensorRT engines are fp32 or fp16")
    if routing == "pinned" and manifest is None:
        raise click.UsageError("--routing pinned needs --calibrate MANIFEST, whose samples choose the experts")
    if manifest is not None and routing != "pinned" and vocabulary is None:
        raise click.UsageError("--calibrate is for --routing pinned and --vocabulary")
    if not card and (licence is not None or scores is not None):
        raise click.UsageError("--licence and --scores are for --card")
    from signet_export.archive import write_archive
    from signet_export.bundle import export_bundle
    from signet_export.card import write_card
    from signet_export.pinning import calibrate, pin
    from signet_export.tensorrt import choose_target
    from signet_runtime.bundle import Bundle, refuse_taken
    from signet_runtime.errors import CheckpointError
    from signet_runtime.files import check_writable
    from signet_train.checkpoint import demo_checkpoint_path, load_cards, load_checkpoint, load_checkpoint_config

    refuse_taken(out, overwrite=force)
    if archive is not None:
        check_writable(archive)
    gpu = choose_target(target, _tell) if engine == "trt" else None
    path = checkpoint or demo_checkpoint_path()
    if top_k is not None:
        load_checkpoint_config(path)
        experts = len(load_cards(path))
        if top_k > experts:  # told before the minutes of an export
            raise CheckpointError(f"--top-k {top_k}: {path} has {experts} experts")
    loaded = load_checkpoint(path)
    if vocabulary is not None:
        loaded = _trimmed(loaded, vocabulary, manifest, split)
    if manifest is not None and routing == "pinned":
        calibration = calibrate(loaded, manifest, split, top_k)
        _tell(calibration.report())
        loaded = pin(loaded, calibration.kept)
    _tell(f"exporting {len(loaded.experts)} experts to {out} …")
    parity = export_bundle(
        loaded,
        out,
        top_k=top_k,
        routing=routing,
        precision=precision,
        target=gpu,
        confidence=None if confidence_manifest is None else _confidence(confidence_manifest, split),
        report=_tell,
        overwrite=force,
    )
    same = ", ".join(f"{share:.0%} with {beams} beams" for beams, share in parity.same_tokens.items())
    exact = min(parity.same_tokens.values()) == 1
    _tell(
        f"{'verified against' if exact else 'compared with'} PyTorch: encoder states within {parity.largest:.1e} (RMS "
        f"{parity.relative:.1e}), the same tokens for {same} of {len(parity.frames)} clips"
        + ("" if exact else f"; {precision} writes other texts than the checkpoint for the rest: evaluate the bundle")
    )
    if card:
        told = None if scores is None else scores.read_text(encoding="utf-8", errors="replace")
        _tell(f"{write_card(Bundle.load(out), loaded.experts, licence, told)}: complete it before you publish it")
    if archive is not None:
        write_archive(Bundle.load(out), archive)
        _tell(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB")
    if gpu is not None and gpu.gpu is None:
        _tell(f"the TensorRT engines were built for {gpu.sm} and not run: they are checked where they first run")
    _tell(f"Next: signet-translate --bundle {out} VIDEO")


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _confidence(manifest: Path, split: str) -> Callable[[Bundle], Calibration]:
    """Return what fits a bundle's confidence on a manifest, and says how good it is."""
    from tqdm import tqdm

    from signet_export.confidence import calibrate_confidence

    def calibrate(bundle: Bundle) -> Calibration:
        with tqdm(desc="confidence", unit="clip", leave=False, mininterval=2) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            fit = calibrate_confidence(bundle, manifest, split, progress)
        _tell(fit.report())
        return fit.calibration

    return calibrate


def _trimmed(checkpoint: Checkpoint, vocabulary: str, manifest: Path | None, split: str) -> Checkpoint:
    """Keep the pieces that ``vocabulary`` needs, and say what that saves, and how the text agrees."""
    import numpy as np

    from signet_export.pinning import samples
    from signet_export.vocabulary import agreement, pieces, trim
    from signet_runtime.engines.random_clips import random_clips

    trimmed = trim(checkpoint, pieces(checkpoint.tokenizer, vocabulary))
    _tell(str(trimmed))
    if manifest is not None:
        dataset = samples(checkpoint, manifest, split)
        clips = [dataset[0, i].regions for i in range(len(dataset))]
    else:
        clips = random_clips([40, 12, 25], np.random.default_rng(0))
    card = checkpoint.config.card
    found = agreement(checkpoint.model, trimmed, clips, card.num_beams, card.max_new_tokens)
    _tell(
        f"greedy text of kept pieces: {found.kept} of {found.clips} clips, all unchanged; "
        f"with {card.num_beams} beams {found.same_with_beams} of {found.kept_with_beams} unchanged"
    )
    return trimmed.checkpoint


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="CHECKPOINT",
    help="Compare with this checkpoint in PyTorch again; without it, the files are compared with their hashes.",
)
@click.option(
    "--signed-by",
    metavar="KEY",
    help="Also see that this minisign public key (RW…, or a file that has it) signed the manifest.",
)
def verify(bundle: Path, against: Path | None, signed_by: str | None) -> None:
    """Check BUNDLE: every file's hash, and --against the checkpoint that it was made of, what it computes.

    \b
    Example: signet-export verify my-bundle --against runs/finetune/best
    """  # noqa: D301
    from signet_runtime.bundle import Bundle

    loaded = Bundle.load(bundle, verify=True)
    click.echo(f"{bundle}: {len(loaded.manifest.files)} files are as they were written")
    if signed_by is not None:
        from signet_runtime.signatures import check_signature, read_key

        click.echo(f"{bundle}: signed, {check_signature(bundle, read_key(signed_by))}")
    if against is not None:
        from signet_export.pinning import as_bundled
        from signet_export.verify import verify as compare
        from signet_train.checkpoint import load_checkpoint

        found = compare(loaded, as_bundled(load_checkpoint(against), loaded).model)
        click.echo(found.model_dump_json(indent=2))


@main.command("serve-with")
@click.argument("server", type=click.Choice(["triton"]))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Directory of the model repository to write."
)
@click.option("--precision", metavar="P", help="Of the bundle's ONNX engines.  [default: the first one]")
@click.option(
    "--clips",
    metavar="N",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Largest batch that clients may send.",
)
def serve_with(server: str, bundle: Path, out: Path, precision: str | None, clips: int) -> None:
    """Write what another server needs to serve BUNDLE's graphs: a model repository for Triton Inference Server.

    Also as signet-export --serve-with triton BUNDLE --out DIR. What clients do before and after the graphs is in
    docs/serving.md.
    """
    from signet_export.triton import export_triton
    from signet_runtime.bundle import Bundle

    for name in export_triton(Bundle.load(bundle), out, precision=precision, clips=clips):
        click.echo(name)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
def inspect(bundle: Path) -> None:
    """Tell what is in BUNDLE: experts, routing, engines, how far they are from PyTorch, and every file's size.

    \b
    Example: signet-export inspect my-bundle
    """  # noqa: D301
    from signet_export.inspect import describe
    from signet_runtime.bundle import Bundle

    click.echo(describe(Bundle.load(bundle)))


if __name__ == "__main__":
    main()
