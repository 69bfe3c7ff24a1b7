"""signet-train pretrain, align, finetune, cache, parameters: what trains."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from signet_train.stages.loop import Outcome

_config = click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_out = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory of the run."
)
_device = click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="[default: CUDA where there is one, else the CPU]"
)
_resume = click.option("--resume", is_flag=True, help="Go on from OUT/last, bit by bit as if never stopped.")
_task = click.option(
    "--task", type=click.Choice(["translate", "recognise"]), help="Targets: sentences, or glosses. [default: CONFIG's]"
)
_start_from = click.option(
    "--start-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Checkpoint whose language model (and fusion) to start from, in place of the paper's rule (Sec. 3.7).",
)
_allow_leak = click.option(
    "--allow-leak", is_flag=True, default=None, help="Take experts that were trained on the corpus of this run."
)

_set = click.option(
    "--set",
    "settings",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="A setting in place of CONFIG's, as optimisation.epochs=3; may be repeated. `signet-train config --explain` "
    "tells all of them.",
)


def _run(
    config: Path,
    stage: str,
    out: Path,
    device: str | None,
    resume: bool,
    settings: tuple[str, ...],
    **changes: object,
) -> None:
    from signet_runtime.errors import ConfigError
    from signet_train.config import load_config

    logging.basicConfig(level=logging.INFO, format="signet-train: %(message)s")
    loaded = load_config(config, settings)
    if loaded.stage != stage:
        raise ConfigError(f"{config}: its stage is {loaded.stage}; run it by `signet-train {loaded.stage}`")
    given = {name: value for name, value in changes.items() if value is not None}
    from signet_train.stages.run import run_stage
    from signet_train.stages.stopping import Stopped

    try:
        outcome = run_stage(loaded.model_copy(update=given), out, device, resume)
    except Stopped as stop:
        raise KeyboardInterrupt(f"{stop}; the same command with --resume goes on from there") from None
    except KeyboardInterrupt:
        saved = (out / "last" / "config.json").is_file()
        how = f"{out / 'last'} is whole: --resume goes on from it" if saved else "nothing is saved yet: start it again"
        raise KeyboardInterrupt(f"interrupted; {how}") from None
    _tell(stage, out, outcome)


def _tell(stage: str, out: Path, outcome: Outcome) -> None:
    click.echo(
        f"{out / 'best'}: {outcome.metric} {outcome.best:.4g}, the best, after step {outcome.best_step} of "
        f"{outcome.steps}; {outcome.seconds / 60:.1f} minutes\n"
        f"{out / 'report.html'}: how it went; so does `tensorboard --logdir {out}`",
        err=True,
    )
    following = {
        "pretrain": f"align or finetune CONFIG, with {str(out / 'best')!r} among its experts",
        "align": f"finetune CONFIG, with start_from = {str(out / 'best')!r}",
        "finetune": f"evaluate {out / 'best'} --split test",
    }
    click.echo(f"Next: signet-train {following[stage]}", err=True)


@click.command()
@_config
@_out
@_set
@_task
@_device
@_resume
def pretrain(
    config: Path, out: Path, settings: tuple[str, ...], task: str | None, device: str | None, resume: bool
) -> None:
    """Stage I: train one expert, a backbone with its mT5, end to end.

    \b
    Example: signet-train pretrain signet_train/configs/csl_news/pretrain.toml --out runs/csl
    Several GPUs: accelerate launch --multi_gpu -m signet_train.cli pretrain … (the batch grows with their number)
    """  # noqa: D301
    _run(config, "pretrain", out, device, resume, settings, task=task)


@click.command()
@_config
@_out
@_set
@_start_from
@_allow_leak
@_device
@_resume
def align(
    config: Path,
    out: Path,
    settings: tuple[str, ...],
    start_from: Path | None,
    allow_leak: bool | None,
    device: str | None,
    resume: bool,
) -> None:
    """Stage II: align fused frozen experts with text, for languages that no expert has seen.

    \b
    Example: signet-train align signet_train/configs/phoenix14t/align.toml --out runs/phoenix14t/align
    """  # noqa: D301
    _run(config, "align", out, device, resume, settings, start_from=start_from, allow_leak=allow_leak)


@click.command()
@_config
@_out
@_set
@_task
@_start_from
@_allow_leak
@_device
@_resume
def finetune(
    config: Path,
    out: Path,
    settings: tuple[str, ...],
    task: str | None,
    start_from: Path | None,
    allow_leak: bool | None,
    device: str | None,
    resume: bool,
) -> None:
    """Stage III: fuse frozen experts (adapters, aggregation, router) and tune the mT5.

    \b
    Example: signet-train finetune signet_train/configs/phoenix14t/finetune.toml --out runs/phoenix14t/finetune
    """  # noqa: D301
    _run(config, "finetune", out, device, resume, settings, task=task, start_from=start_from, allow_leak=allow_leak)


@click.command()
@_config
@click.option(
    "--views",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="Noisy views of every training sample; see below.",
)
@click.option("--half", is_flag=True, help="Store float16: half the space, about three digits.")
@click.option("--dry-run", is_flag=True, help="Read what is needed, say what would be computed, and write nothing.")
@_set
@_device
def cache(config: Path, views: int, half: bool, dry_run: bool, settings: tuple[str, ...], device: str | None) -> None:
    """Compute the frozen experts' features once, so that Stages II and III need not run them.

    CONFIG is Stage II's or III's; its data.cache says where the features go, and training reads them from there.
    A view is what one epoch of uncached training would see, noise and lost frames included; training goes through the
    views in turn. One view means the same noise every epoch, as many views as epochs the same training as without a
    cache. Stopped, it goes on where it was.

    \b
    Example: signet-train cache signet_train/configs/phoenix14t/finetune.toml --views 4
    Example: signet-train cache signet_train/configs/phoenix14t/finetune.toml --views 4 --dry-run
    """  # noqa: D301
    from signet_train.config import load_config

    logging.basicConfig(level=logging.INFO, format="signet-train: %(message)s")
    loaded = load_config(config, settings)
    from signet_train.stages.caching import cache_features

    try:
        planned = cache_features(loaded, views, half, device, dry_run)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on with what is not there yet") from None
    if dry_run:
        rows = ", ".join(f"{count} of {split}" for split, count in planned.rows.items())
        click.echo(
            f"{loaded.data.cache}: rows: {rows}; {planned.shards} files, {planned.missing} of them to be made, at most "
            f"{planned.bytes / 1e9:.1f} GB together; nothing was written",
            err=True,
        )
        return
    click.echo(f"{loaded.data.cache}: the features, {views} view{'s'[: views > 1]} of each training sample", err=True)
    click.echo(f"Next: signet-train {loaded.stage} {config} --out RUN", err=True)


@click.command()
def parameters() -> None:
    """Count the paper-size model's parameters and print them next to the paper's Table 5."""
    from signet_train.parameters import parameter_table

    click.echo(parameter_table())
