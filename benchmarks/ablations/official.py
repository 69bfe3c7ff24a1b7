"""Which of the differences between the authors' code and the paper matter: one table, and a verdict on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.ablations.scores import Results, difference
from benchmarks.ablations.tables import Table, by_task
from benchmarks.ablations.variants import DIFFERENCES, AuthorsWay, Variant, full
from benchmarks.ablations.verdicts import Claim, same
from benchmarks.ablations.world import World

_NAMES: dict[AuthorsWay, str] = {
    "router": "a router 128/1728 as wide",
    "adapters": "adapters that start away from the identity",
    "dropout": "dropout of the attention over experts",
    "temperature": "a temperature that stays at its start",
    "prompt": "a prompt in Stage III",
    "all": "all of these",
    "unadapted": "adapters of Stage II that Stage III leaves out (66d46bd)",
}


def official(world: World, results: Results) -> Table:
    """SIGNET as in the paper, and with what the authors' code does otherwise."""
    rows: dict[str, dict[str, Variant | None]] = {"as in the paper": {t: full(world, t) for t in world.tasks}}
    for what in DIFFERENCES:
        rows[_NAMES[what]] = {t: replace(full(world, t), as_authors=what) for t in world.tasks}
    return Table("The authors' code (docs/official.md): which differences matter", "", by_task(world, results, rows))


def official_claims(world: World, results: Results) -> Iterator[Claim]:
    """For each difference, that it makes none: within `verdicts.SAME` points of the paper's way."""
    for what in DIFFERENCES:
        found = difference(
            [
                (results.get(t, replace(full(world, t), as_authors=what)), results.get(t, full(world, t)))
                for t in world.tasks
            ]
        )
        yield Claim(
            f"As in the authors' code, {_NAMES[what]}: it changes nothing.",
            "docs/official.md",
            f"the authors' way less the paper's: {found if found is not None else '–'}",
            same(found),
        )
