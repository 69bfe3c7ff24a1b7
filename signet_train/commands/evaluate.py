"""signet-train evaluate: a checkpoint's text, and how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from signet_runtime.errors import ConfigError, ExitCode
from signet_runtime.limits import check_limit
from signet_train.evaluation.tokenizers import TOKENIZERS

_CANDIDATES = 5  # glosses of a sign that are kept

if TYPE_CHECKING:
    from signet_train.data.manifest import Row
    from signet_train.evaluation.predictions import Prediction


@click.command()
@click.argument("checkpoint", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What to translate; may be repeated. [default: the checkpoint's own]",
)
@click.option("--split", default="test", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Save the predictions here (.jsonl).")
@click.option(
    "--predictions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Score this file in place of a CHECKPOINT: .jsonl, .json, .csv, .tsv, or plain text, a sentence a line.",
)
@click.option(
    "--references", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For plain text: the truth."
)
@click.option(
    "--tokenize", type=click.Choice(TOKENIZERS), help="sacrebleu's tokenizer. [default: by the language of the text]"
)
@click.option(
    "--scoring",
    type=click.Choice(["literature", "authors"]),
    default="literature",
    show_default=True,
    help="authors: as the code of the paper's authors does, which changes texts before (see docs/official.md).",
)
@click.option(
    "--corpus", help="With --scoring authors: what --predictions are of (phoenix14t, csl-daily). [default: none]"
)
@click.option("--language", help="Of the text in --predictions (BCP 47), which decides how it is tokenised.")
@click.option("--task", type=click.Choice(["translate", "recognise"]), help="[default: the checkpoint's, or translate]")
@click.option("--beams", type=click.IntRange(1), help="[default: the checkpoint's, 4 in the paper]")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1))
@click.option(
    "--bleurt",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of a BLEURT-20 checkpoint (see docs/metrics.md).",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: CUDA where there is one, else the CPU]")
@click.option(
    "--allow-mix",
    multiple=True,
    type=click.Choice(["pose_estimator"]),
    help="Take keypoints of another estimator than the model was trained on.",
)
def evaluate(
    checkpoint: Path | None,
    manifests: tuple[Path, ...],
    split: str,
    out: Path | None,
    predictions: Path | None,
    references: Path | None,
    tokenize: str | None,
    scoring: str,
    corpus: str | None,
    language: str | None,
    task: str | None,
    beams: int | None,
    batch_size: int,
    bleurt: Path | None,
    device: str | None,
    allow_mix: tuple[str, ...],
) -> None:
    """Translate a split with CHECKPOINT, or take a file of predictions, and print the scores.

    BLEU-1 to -4, chrF, both kinds of ROUGE-L and the error rate of characters, each with the tokens it counts and
    sacrebleu's signature; in recognition, top-1 accuracy per instance and per class, and top-k, with k of up to 5
    beams; --out then also has each sign's candidates and their scores. Where texts of several languages want different
    tokenizers, each has a table of its own.

    \b
    Examples:
      signet-train evaluate runs/phoenix14t/finetune/best --split test --out predictions.jsonl
      signet-train evaluate --predictions predictions.jsonl --language de
      signet-train evaluate --predictions hypotheses.txt --references references.txt --language zh
    """  # noqa: D301
    from signet_train.evaluation.predictions import read_predictions, write_predictions

    if (checkpoint is None) == (predictions is None):
        raise click.UsageError("give a CHECKPOINT, or a file by --predictions")
    if beams is not None:
        check_limit("beams", beams, "--beams", ConfigError)
    by_authors = scoring == "authors"
    if by_authors and tokenize is not None:
        raise click.UsageError("--scoring authors tokenises by 13a; leave --tokenize out")
    if corpus is not None and not (by_authors and predictions is not None):
        raise click.UsageError("--corpus is for --predictions with --scoring authors")
    if checkpoint is not None:
        found, rows, task = _translate(checkpoint, manifests, split, beams, batch_size, device, task, allow_mix)
        if not by_authors:
            found = _comparable(found, rows, tokenize)
        if out is not None:
            write_predictions(out, found)
        languages = [row.language for row in rows]
        corpus = rows[0].corpus
    else:
        assert predictions is not None
        if language is None and tokenize is None and task != "recognise" and not by_authors:
            raise click.UsageError("--predictions needs --language (of the text), or --tokenize")
        found = read_predictions(predictions, references)
        languages = [language or "und"] * len(found)
    if task == "recognise":
        _print_recognition(found)
    elif by_authors:
        from signet_train.evaluation.authors import authors_scores

        click.echo(authors_scores([p.reference for p in found], [p.hypothesis for p in found], corpus).table())
    else:
        _print_scores(found, languages, tokenize, bleurt, device)
    if checkpoint is not None:
        if out is not None:
            click.echo(f"{out}: {len(found)} texts, beside what they should be", err=True)
        click.echo(f"Next: signet-export {checkpoint} --out BUNDLE", err=True)


def _translate(
    checkpoint: Path,
    manifests: tuple[Path, ...],
    split: str,
    beams: int | None,
    batch_size: int,
    device: str | None,
    task: str | None,
    allow_mix: tuple[str, ...],
) -> tuple[list[Prediction], list[Row], str]:
    from signet_train.checkpoint import load_checkpoint
    from signet_train.data.batches.dataset import PoseDataset, load_rows
    from signet_train.stages.generate import predict
    from signet_train.stages.loop import make_accelerator

    loaded = load_checkpoint(checkpoint)
    if not manifests and not loaded.config.data.manifests:
        raise click.UsageError(f"{checkpoint} was trained elsewhere and has no data of its own: give --manifest")
    data = loaded.config.data.model_copy(update={"manifests": manifests} if manifests else {})
    mix = (*loaded.config.allow_mix, *allow_mix)
    config = loaded.config.model_copy(update={"data": data, "task": task or loaded.config.task, "allow_mix": mix})
    rows = load_rows(data, split)
    accelerator = make_accelerator("no", device)  # as the bundle computes, wherever it was trained
    loaded.model.to(accelerator.device)
    beams = beams or config.card.num_beams
    found = predict(
        loaded,
        PoseDataset(rows, config, training=False),
        accelerator,
        num_beams=beams,
        batch_size=batch_size,
        candidates=min(beams, _CANDIDATES) if config.task == "recognise" else 1,
    )
    if not accelerator.is_main_process:
        raise SystemExit(ExitCode.DONE)  # one of several processes tells the scores
    return found, [located.row for located in rows], config.task


def _comparable(found: list[Prediction], rows: list[Row], tokenize: str | None) -> list[Prediction]:
    from signet_train.evaluation.metrics import tokenizer_for
    from signet_train.stages.generate import comparable

    return [
        comparable([prediction], tokenize or tokenizer_for(row.language))[0]
        for prediction, row in zip(found, rows, strict=True)
    ]


def _print_recognition(found: list[Prediction]) -> None:
    from signet_train.evaluation import metrics

    references = [p.reference for p in found]
    per_instance, per_class = metrics.recognition_accuracy(references, [p.hypothesis for p in found])
    click.echo(f"P-I  {per_instance:6.2f}  top-1, the mean over {len(references)} instances")
    click.echo(f"P-C  {per_class:6.2f}  top-1, the mean over classes")
    count = min((len(p.candidates) for p in found), default=0)
    if count > 1:
        top = metrics.top_accuracy(references, [[text for text, _ in p.candidates] for p in found], count)
        click.echo(f"P-I  {top:6.2f}  top-{count}, of the {count} best that the search finds")


def _print_scores(
    found: list[Prediction], languages: list[str], tokenize: str | None, bleurt: Path | None, device: str | None
) -> None:
    """Print the scores; texts that want different tokenizers apart, as no figure of all of them means anything."""
    from signet_train.evaluation import metrics

    groups: dict[str, list[int]] = {}
    for i, language in enumerate(languages):
        groups.setdefault(tokenize or metrics.tokenizer_for(language), []).append(i)
    for how, chosen in groups.items():
        pairs = [found[i] for i in chosen]
        references, hypotheses = [p.reference for p in pairs], [p.hypothesis for p in pairs]
        if len(groups) > 1:
            named = ", ".join(sorted({languages[i] for i in chosen}))
            click.echo(f"-- texts in {named}, by the tokenizer {how}; --tokenize scores all by one")
        click.echo(metrics.translation_scores(references, hypotheses, how).table())
        click.echo(f"{'CER':<12}  {100 * metrics.character_error_rate(references, hypotheses):6.2f}  edits a character")
        if bleurt is not None:
            import torch

            from signet_train.evaluation import bleurt as learned

            where = device or ("cuda" if torch.cuda.is_available() else "cpu")
            scores = learned.bleurt(references, hypotheses, bleurt, where)
            click.echo(f"{'BLEURT':<12}  {100 * sum(scores) / len(scores):6.2f}  {bleurt.name}|mean of sentences")
