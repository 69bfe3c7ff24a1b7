"""signet-train import-expert, import-model: published checkpoints become ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signet_train.data.datasets import DATASETS
from signet_train.interop.origins import ORIGINS, Origin

if TYPE_CHECKING:
    from signet_train.interop.unisign import Published

_format = click.argument("format_", metavar="FORMAT", type=click.Choice(["unisign"]))
_checkpoint = click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_out = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory to write."
)
_name = click.option("--name", help="Of the expert, as routing reports it. [default: OUT's]")
_sign_language = click.option(
    "--sign-language", metavar="CODE", help="What it reads (ISO 639-3: csl, ase). [default: by the file's name]"
)
_corpora = click.option(
    "--corpus",
    "corpora",
    metavar="NAME",
    multiple=True,
    help="A corpus that it was trained on, at any time; may be repeated. [default: by the file's name]",
)


@click.command("import-expert")
@_format
@_checkpoint
@_out
@_sign_language
@_corpora
@_name
def import_expert(
    format_: str, checkpoint: Path, out: Path, sign_language: str | None, corpora: tuple[str, ...], name: str | None
) -> None:
    """Make a frozen expert of a published CHECKPOINT: the backbone alone, without its language model.

    FORMAT is unisign: files of Uni-Sign's public code, and Geo-Sign's, whose hyperbolic heads are only for training. Of
    checkpoints with an RGB branch, the pose part is taken. Nothing in the file is executed.

    The corpora that it has seen are written down: Stages II and III refuse an expert that was tuned on the very corpus
    they train on (the paper's experts have not seen it), unless --allow-leak is given.

    \b
    Examples:
      signet-train import-expert unisign csl_stage1_weight.pth --out experts/csl
      signet-train import-expert unisign pretraining.pth --out experts/geosign \\
          --sign-language csl --corpus csl-news
    """  # noqa: D301
    from signet_train.checkpoint import save_expert
    from signet_train.interop import unisign

    origin = _origin(checkpoint, sign_language, "und", corpora)
    _refuse_taken(out)
    card, weights, published = unisign.import_expert(checkpoint, origin, name or out.name)
    save_expert(out, card, weights)
    _tell(checkpoint, out, origin, published, "finetune CONFIG, with this directory among its experts")


@click.command("import-model")
@_format
@_checkpoint
@_out
@click.option(
    "--mt5",
    default="google/mt5-base",
    show_default=True,
    metavar="SOURCE",
    help="Where its tokenizer is: a directory, or a name on the Hugging Face hub. The weights there are not needed.",
)
@_sign_language
@click.option("--language", metavar="CODE", help="What it writes (BCP 47: zh, en). [default: by the file's name]")
@_corpora
@click.option(
    "--task", type=click.Choice(["translate", "recognise"]), help="[default: by the file's name, or translate]"
)
@_name
def import_model(
    format_: str,
    checkpoint: Path,
    out: Path,
    mt5: str,
    sign_language: str | None,
    language: str | None,
    corpora: tuple[str, ...],
    task: str | None,
    name: str | None,
) -> None:
    """Make a complete one-expert SIGNET of a published CHECKPOINT: backbone, prompt, tokenizer and language model.

    It evaluates, exports and translates at once; it is also an expert whose language model Stages II and III can start
    from. FORMAT is unisign, as in import-expert.

    \b
    Examples:
      signet-train import-model unisign openasl_pose_only_slt.pth --out models/openasl --mt5 mt5-base
      signet-train evaluate models/openasl --manifest data/openasl.parquet
      signet-export models/openasl --out bundles/openasl
      signet-translate --bundle bundles/openasl video.mp4
    """  # noqa: D301
    from signet_train.checkpoint import save_checkpoint
    from signet_train.interop import unisign

    origin = _origin(checkpoint, sign_language, language, corpora)
    if task is not None:
        origin = replace(origin, task="recognise" if task == "recognise" else "translate")
    _refuse_taken(out)
    model, published = unisign.import_model(checkpoint, origin, name or out.name, mt5)
    save_checkpoint(out, model)
    _tell(checkpoint, out, origin, published, f"evaluate {out} --manifest …, or signet-export {out} --out BUNDLE")


def _origin(checkpoint: Path, sign_language: str | None, language: str | None, corpora: tuple[str, ...]) -> Origin:
    """Return what is given, and for a file of a published name what is known of it."""
    known = ORIGINS.get(checkpoint.name)
    names = {dataset.corpus for dataset in DATASETS.values()} - {None}
    for corpus in sorted(set(corpora) - names):
        click.echo(
            f"signet-train: --corpus {corpus} is not one of {', '.join(sorted(filter(None, names)))}: no "
            "manifest's rows will be known to be of it",
            err=True,
        )
    if known is not None:
        return replace(
            known,
            sign_language=sign_language or known.sign_language,
            language=language or known.language,
            seen=corpora or known.seen,
        )
    if sign_language is None or language is None or not corpora:
        needed = {"--sign-language": sign_language, "--language": language, "--corpus": corpora}
        raise click.UsageError(
            f"{checkpoint.name} is not the name of a published file, so say "
            f"{', '.join(option for option, value in needed.items() if not value)} (known are {', '.join(ORIGINS)})"
        )
    return Origin(sign_language, language, corpora)


def _refuse_taken(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise click.UsageError(f"--out {out}: exists already; choose another name")


def _tell(checkpoint: Path, out: Path, origin: Origin, published: Published, next_step: str) -> None:
    for part in published.left_out:
        click.echo(f"signet-train: {checkpoint}: {part} was left out", err=True)
    seen = ", ".join(origin.seen)
    click.echo(f"{out}: reads {origin.sign_language}; was trained on {seen}", err=True)
    click.echo(f"Next: signet-train {next_step}", err=True)
