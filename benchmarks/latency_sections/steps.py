"""Whole training steps of Stage III in turns, ours and the authors'."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.measuring.report import Ratio, Report, Table, Timing
from benchmarks.measuring.timing import Way, in_turns


@dataclass(frozen=True)
class Step:
    """What is trained in turns: a name, the forward pass of a prepared batch, and the modules that it trains."""

    name: str
    loss: Callable[[], Tensor]
    modules: tuple[nn.Module, ...]


def step_table(report: Report) -> Table:
    """Add the table that `training_steps` fills."""
    table = report.table(
        "step", "A training step of Stage III, batch of 8", "method", "precision", "step, ms", "of the authors'"
    )
    table.notes += [
        "Experts, adapters, router, mT5, backward and AdamW: what the only clock in the authors' code runs over, and "
        "so what the paper's 320 ms must be, which it calls a forward latency (docs/official.md).",
        "AdamW has its moments and a learning rate of 0, so that every step starts from the same weights; the language "
        "model's moments are those of one optimiser, which all rows use.",
    ]
    return table


def training_steps(
    table: Table,
    steps: Sequence[Step],
    language_model: nn.Module,
    precision: str,
    rounds: int,
    device: torch.device,
    tell: Callable[[str], None],
) -> None:
    """Time whole training steps in turns, the authors' last."""
    shared = {id(p) for p in language_model.parameters()}
    of_language_model = _adamw(language_model.parameters())

    def way(step: Step) -> Way:
        own = {id(p): p for m in step.modules for p in m.parameters() if p.requires_grad and id(p) not in shared}
        optimiser = _adamw(own.values())

        def run() -> None:
            step.loss().backward()
            optimiser.step()
            of_language_model.step()

        def forget() -> None:
            for module in (*step.modules, language_model):
                module.zero_grad(set_to_none=True)

        return Way(step.name, run, after=forget)

    ways = [way(step) for step in steps]
    theirs: Timing = ways[-1].timing
    table.rows += [[w.name, precision, w.timing, Ratio(w.timing, theirs)] for w in ways]
    in_turns(ways, rounds, device, tell)


def _adamw(parameters: Iterable[Tensor]) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=0.0, weight_decay=0.0)
