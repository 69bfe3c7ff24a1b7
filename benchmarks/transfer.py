"""Does it transfer? The paper's ablations, on real signers' spelled words or on your own languages."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if not __package__:  # run as a file: Python looks for modules beside it, and the project is one up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if TYPE_CHECKING:
    from benchmarks.ablations.runs import Study

_MINIATURE = {
    "seeds": [1],
    "tasks": {"csq": ["csq"], "gsg": ["gsg"]},
    "mixed": ["csq"],
    "shares": [50, 100],
    "views": 1,
    "corpus": {"pretraining": 64, "downstream": 32, "max_letters": 3},
}


@click.command()
@click.option(
    "--world",
    "world_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Experts, tasks and how they are trained. [default: fingerspelling.toml of benchmarks/ablations/worlds]",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Of runs and report. [default: runs/transfer]"
)
@click.option("--quick", is_flag=True, help="A miniature, in which nothing is learned: does the machinery work?")
@click.option(
    "--authors", is_flag=True, help="Only what the authors' code does otherwise than the paper (docs/official.md)."
)
@click.option("--seed", "seeds", type=int, multiple=True, help="Only these seeds: so several processes share the work.")
@click.option("--report", "only_report", is_flag=True, help="Train nothing, report on what is there.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="[default: CUDA where there is one, else the CPU]")
def main(
    world_file: Path | None,
    out: Path | None,
    quick: bool,
    authors: bool,
    seeds: tuple[int, ...],
    only_report: bool,
    device: str | None,
) -> None:
    """Answer the paper's questions of transfer for a set of sign languages.

    Trains every expert, and for every task and seed every variant that Tables 6 to 10 and 15 and Figures 4 and 5
    compare; reads the test split with each; and writes report.md, with the paper's tables beside these and a verdict on
    every claim. What is finished is not done again: stopped or killed, the same command goes on. See docs/transfer.md.

    \b
    Examples:
      python -m benchmarks.transfer --quick
      python -m benchmarks.transfer --out runs/transfer
      python -m benchmarks.transfer --world my-languages.toml --out runs/mine --seed 1
    """  # noqa: D301
    from benchmarks.ablations.report import write_report
    from benchmarks.ablations.runs import Study
    from benchmarks.ablations.world import WORLDS, load_world, manifests
    from signet_runtime.commands.console import exit_on_error

    out = out or Path("runs", "transfer-quick" if quick else "transfer")
    with exit_on_error("transfer", "interrupted; the same command goes on"):
        changes = {**(_MINIATURE if quick else {}), **({"asks": ["authors"]} if authors else {})}
        world = load_world(world_file or WORLDS / "fingerspelling.toml", changes)
        if quick:
            world = world.hurried()
        if unknown := set(seeds) - set(world.seeds):
            raise click.UsageError(f"--seed {min(unknown)}: the world's seeds are {', '.join(map(str, world.seeds))}")
        out.mkdir(parents=True, exist_ok=True)
        study = Study(world, manifests(world, out), out, device)
        if not only_report:
            _train(study, seeds or world.seeds)
        write_report(study)
    click.echo(out / "report.md")


def _train(study: Study, seeds: Sequence[int]) -> None:
    jobs = [job for job in study.jobs(seeds) if not job.file.is_file()]
    begun = time.monotonic()
    for number, job in enumerate(jobs, 1):
        name = job.file.parent.relative_to(study.out)
        job.file.parent.mkdir(parents=True, exist_ok=True)
        # Of the bars of hundreds of runs, one is shown: how many runs are left.
        with open(job.file.parent / "progress.txt", "a") as log, contextlib.redirect_stderr(log):
            job.make()
        spent = time.monotonic() - begun
        left = spent / number * (len(jobs) - number)
        click.echo(f"{number}/{len(jobs)}  {spent:.0f} s, about {left / 60:.0f} min left  {name}", err=True)


if __name__ == "__main__":
    main()
