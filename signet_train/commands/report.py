"""signet-train report: how a run went, as a page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write RUN/report.html: curves, sample texts, routing, confusion of glosses, configuration, cost.

    The page is one file with all it shows in it. A run writes it at every validation; this command writes it at once,
    of a run that is going on, was stopped, or is done.

    \b
    Example: signet-train report runs/phoenix14t/finetune
    """  # noqa: D301
    from signet_train.report.page import write_page

    click.echo(write_page(run))
