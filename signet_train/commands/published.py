"""signet-train import-expert, import-model: published checkpoints become ours, by their file or by their name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from signet_train.data.datasets import DATASETS
from signet_train.interop.origins import EXPERT_DIRECTORIES, ORIGINS, SIGN_LANGUAGES, Origin, origin_of

if TYPE_CHECKING:
    from signet_train.interop.unisign import Published

_checkpoint = click.argument("checkpoint", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
_offline = click.option(
    "--offline", is_flag=True, envvar="SIGNET_OFFLINE", help="Never touch the network (or SIGNET_OFFLINE=1)."
)
_accept_licence = click.option(
    "--accept-licence", is_flag=True, help="Accept the licence of NAME, which `signet-models show` tells; once."
)
_out = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory to write."
)


def _called(name: str | None, out: Path) -> str:
    """Return what a model is called: as somebody says, or as its directory."""
    from signet_train.ranges import name_of

    if name is not None and (not name or name != name_of(Path("/", name))):
        raise click.UsageError("--name: has to be a text of up to 200 characters that can be shown, without a slash")
    return name or name_of(out)


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
@click.argument("format_", metavar="FORMAT|NAME")
@_checkpoint
@_out
@_sign_language
@_corpora
@_name
@_accept_licence
@_offline
def import_expert(
    format_: str,
    checkpoint: Path | None,
    out: Path,
    sign_language: str | None,
    corpora: tuple[str, ...],
    name: str | None,
    accept_licence: bool,
    offline: bool,
) -> None:
    """Make a frozen expert of a published CHECKPOINT: the backbone alone, without its language model.

    NAME is one that `signet-models list` tells: its checkpoint is fetched if it is not here. Or FORMAT is unisign:
    files of Uni-Sign's public code, and Geo-Sign's, whose hyperbolic heads are only for training. Of checkpoints with
    an RGB branch, the pose part is taken. Nothing in the file is executed.

    The corpora that it has seen are written down: Stages II and III refuse an expert that was tuned on the very corpus
    they train on (the paper's experts have not seen it), unless --allow-leak is given.

    \b
    Examples:
      signet-train import-expert csl-news --accept-licence --out experts/csl
      signet-train import-expert unisign csl_stage1_weight.pth --out experts/csl
      signet-train import-expert unisign pretraining.pth --out experts/geosign \\
          --sign-language csl --corpus csl-news
    """  # noqa: D301
    from signet_train.checkpoint import save_expert
    from signet_train.interop import unisign

    _refuse_taken(out)
    if checkpoint is None:
        named = _named(format_, {"unisign"}, accept_licence, offline)
        checkpoint, origin, name = named.checkpoint, named.origin, name or format_
    else:
        _check_format(format_, {"unisign"})
        origin = _origin(checkpoint, sign_language, "und", corpora)
    card, weights, published = unisign.import_expert(checkpoint, origin, _called(name, out))
    save_expert(out, card, weights)
    _tell(checkpoint, out, origin, published, "finetune CONFIG, with this directory among its experts")


@click.command("import-model")
@click.argument("format_", metavar="FORMAT|NAME")
@_checkpoint
@_out
@click.option(
    "--expert",
    "experts",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="signet: an expert's checkpoint; once for each, in the order of --expert_model_paths in the gate's training.",
)
@click.option(
    "--expert-corpus",
    "expert_corpora",
    metavar="NAME",
    multiple=True,
    help="signet: what an expert was pretrained on; once for each --expert, in their order. [default: by the names of "
    "their directories: CSL_News, YT_ASL, BOBSL]",
)
@click.option(
    "--adapters/--no-adapters",
    default=True,
    help="signet: leave the adapters out, as Stage III of the authors' first commit does. [default: used]",
)
@click.option(
    "--mt5",
    metavar="SOURCE",
    help="Where its tokenizer is: a directory, or a name on the Hugging Face hub. The weights there are not needed. "
    "[default: google/mt5-base; of a NAME what the catalogue says, checked]",
)
@_sign_language
@click.option("--language", metavar="CODE", help="What it writes (BCP 47: zh, en). [default: by the file's name]")
@_corpora
@click.option(
    "--task", type=click.Choice(["translate", "recognise"]), help="[default: by the file's name, or translate]"
)
@_name
@_accept_licence
@_offline
def import_model(
    format_: str,
    checkpoint: Path | None,
    out: Path,
    mt5: str | None,
    sign_language: str | None,
    language: str | None,
    corpora: tuple[str, ...],
    task: str | None,
    name: str | None,
    experts: tuple[Path, ...],
    expert_corpora: tuple[str, ...],
    adapters: bool,
    accept_licence: bool,
    offline: bool,
) -> None:
    """Make a complete SIGNET of a published CHECKPOINT: backbone, prompt, tokenizer and language model.

    It evaluates, exports and translates at once. NAME is one that `signet-models list` tells: what it takes is fetched
    if it is not here (`signet-models pull` goes on and exports it). Or FORMAT is unisign, as in import-expert: the
    model has one expert, and is itself an expert whose language model Stages II and III can start from. Or it is
    signet: CHECKPOINT is a gate of the code that the paper's authors published, and each --expert a file of its
    pre_training.py.

    \b
    Examples:
      signet-train import-model openasl --accept-licence --out models/openasl
      signet-train import-model unisign openasl_pose_only_slt.pth --out models/openasl --mt5 mt5-base
      signet-train evaluate models/openasl --manifest data/openasl.parquet
      signet-export models/openasl --out bundles/openasl
      signet-translate --bundle bundles/openasl video.mp4
      signet-train import-model signet signet/best_checkpoint.pth --expert CSL_News/best_checkpoint.pth \\
          --expert YT_ASL/best_checkpoint.pth --expert BOBSL/best_checkpoint.pth --out models/signet \\
          --sign-language gsg --language de --corpus phoenix14t --mt5 mt5-base
    """  # noqa: D301
    from signet_train.checkpoint import save_checkpoint
    from signet_train.interop import unisign

    if format_ != "signet" and (experts or expert_corpora or not adapters):
        raise click.UsageError("--expert, --expert-corpus and --no-adapters are for the format signet")
    _refuse_taken(out)
    notice = None
    if checkpoint is None:
        named = _named(format_, {"unisign", "signet"}, accept_licence, offline)
        checkpoint, origin, notice = named.checkpoint, named.origin, named.notice
        mt5, name = mt5 or named.mt5, name or format_
    else:
        _check_format(format_, {"unisign", "signet"})
        origin = _origin(checkpoint, sign_language, language, corpora)
    if task is not None:
        origin = replace(origin, task="recognise" if task == "recognise" else "translate")
    mt5, name = mt5 or "google/mt5-base", _called(name, out)
    if format_ == "signet":
        _import_signet(checkpoint, _with_origins(experts, expert_corpora), origin, out, name, mt5, adapters)
        return
    model, published = unisign.import_model(checkpoint, origin, name, mt5)
    if notice is not None:
        card = model.config.card.model_copy(update={"notice": notice})
        model.config = model.config.model_copy(update={"card": card})
    save_checkpoint(out, model)
    _tell(checkpoint, out, origin, published, f"evaluate {out} --manifest …, or signet-export {out} --out BUNDLE")


class _Named(NamedTuple):
    """A catalogue's checkpoint: the file, where it comes from, its tokenizer, and what whoever uses it must know."""

    checkpoint: Path
    origin: Origin
    mt5: str | None
    notice: str | None


def _named(name: str, formats: set[str], accept_licence: bool, offline: bool) -> _Named:
    """Return a catalogue's checkpoint, which is fetched if it is not here."""
    from signet_runtime.commands.console import own_notes
    from signet_runtime.commands.models import ask
    from signet_runtime.models.fetch import load_catalogue
    from signet_runtime.models.home import Home
    from signet_runtime.models.pull import Wishes, files_of
    from signet_runtime.models.reference import refer

    if name in formats:
        raise click.UsageError(f"{name} CHECKPOINT: give the file of the checkpoint, or a NAME alone")
    home = Home.default()
    with own_notes("signet-train", quiet=False):
        reference = refer(name, load_catalogue(offline=offline, home=home))
        entry = reference.catalogue.entry(reference.name)
        if entry.format != "unisign":
            raise click.UsageError(f"{name}: of the format {entry.format}, and no checkpoint that can be imported")
        wishes = Wishes(
            offline=offline,
            accept=lambda licence: accept_licence or ask(licence),
            report=lambda line: click.echo(line, err=True),
        )
        fetched = files_of(reference, home, wishes)
        tokenizers = [files_of(reference._replace(name=needed), home, wishes) for needed in entry.needs]
    licence = reference.catalogue.licence(entry)
    mt5 = next((str(next(iter(t.files.values())).parent) for t in tokenizers), None)
    notice = f"{name}: {licence.says}" if licence.must_be_accepted else None
    return _Named(next(iter(fetched.files.values())), origin_of(entry), mt5, notice)


def _check_format(format_: str, formats: set[str]) -> None:
    if format_ not in formats:
        raise click.UsageError(f"{format_!r} is none of the formats {', '.join(sorted(formats))}; a NAME takes no file")


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


def _with_origins(experts: tuple[Path, ...], corpora: tuple[str, ...]) -> list[tuple[Path, Origin]]:
    """Experts of the authors' code with what they were pretrained on, which is what was said or their directories."""
    if corpora and len(corpora) != len(experts):
        raise click.UsageError(
            f"--expert-corpus: {len(corpora)} for {len(experts)} experts; give one for each, or none"
        )
    found = []
    for file, corpus in zip(experts, corpora or (None,) * len(experts), strict=True):
        corpus = corpus or EXPERT_DIRECTORIES.get(file.absolute().parent.name)
        if corpus not in SIGN_LANGUAGES:
            what = f"--expert-corpus {corpus} is not known" if corpus else f"{file}: say what it was pretrained on by "
            what += "" if corpus else "--expert-corpus, once for each expert"
            raise click.UsageError(f"{what}; there are {', '.join(SIGN_LANGUAGES)}")
        found.append((file, Origin(SIGN_LANGUAGES[corpus], "und", (corpus,))))
    return found


def _import_signet(
    gate: Path, experts: list[tuple[Path, Origin]], origin: Origin, out: Path, name: str, mt5: str, adapters: bool
) -> None:
    from signet_train.checkpoint import save_checkpoint
    from signet_train.interop.signet import import_signet

    model, left_out = import_signet(gate, experts, origin, name, mt5, adapters)
    save_checkpoint(out, model)
    for part in left_out:
        click.echo(f"signet-train: {part} was left out", err=True)
    order = ", ".join(f"{i} {card.name}" for i, card in enumerate(model.experts))
    click.echo(f"{out}: its experts are {order}; the gate's file does not say which it was trained with", err=True)
    if model.config.stage == "align":
        click.echo(f"Next: it is of Stage II: signet-train finetune CONFIG, with start_from = {str(out)!r}", err=True)
    else:
        click.echo(f"Next: signet-train evaluate {out} --manifest …, or signet-export {out} --out BUNDLE", err=True)
