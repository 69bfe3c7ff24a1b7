"""The one training loop that every stage runs on."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from signet_runtime.errors import ConfigError, InputError, TrainingError
from signet_train.checkpoint import Checkpoint
from signet_train.config import OptimisationConfig
from signet_train.data.batches.cache import digest
from signet_train.data.batches.collate import Batch, Collate, load_batches
from signet_train.data.batches.sampling import BatchOrder
from signet_train.report.page import write_page
from signet_train.stages.progress import Progress
from signet_train.stages.recipe import Run
from signet_train.stages.stopping import Stopped, stop_requests

_log = logging.getLogger(__name__)
_REPORT_EVERY = 20  # steps


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        steps: how many it has done; seconds: how long they took, over all its parts.
        metric, best, best_step: the figure that decides, its best value, and the step that had it.
    """

    steps: int
    seconds: float
    metric: str
    best: float
    best_step: int


def learning_rate(config: OptimisationConfig, lr: float, epochs: float) -> float:
    """Return the rate after ``epochs``: linear warm-up from 0, then a cosine from ``lr`` to ``min_lr`` (Table 14)."""
    if epochs < config.warmup_epochs:
        return lr * epochs / config.warmup_epochs
    progress = (epochs - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
    return config.min_lr + (lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(run: Run) -> list[dict[str, Any]]:
    """Group what is trained by how fast: the router has a learning rate of its own (Table 14)."""
    fusion, config = run.checkpoint.model.routed, run.checkpoint.config.optimisation
    router = [p for p in fusion.router.parameters() if p.requires_grad] if fusion is not None else []
    of_router = {id(p) for p in router}
    rest = [p for p in run.objective.parameters() if p.requires_grad and id(p) not in of_router]
    groups = [{"params": rest, "peak": config.lr}, {"params": router, "peak": config.router_lr}]
    return [group for group in groups if group["params"]]


def make_accelerator(precision: str, device: str | None) -> Accelerator:
    """Set up one process or several (`accelerate launch`), on CPU or GPU; ``precision`` is `OptimisationConfig`'s.

    Raises:
        ConfigError: bf16 on a machine that has no fast bf16.
    """
    if precision == "bf16" and (device == "cpu" or not torch.cuda.is_available()):
        raise ConfigError(
            'optimisation.precision: bf16 needs a GPU; on a CPU it is far slower than fp32: say "no", or --set '
            "optimisation.precision=no"
        )
    return Accelerator(mixed_precision=precision, cpu=device == "cpu")


def train(
    run: Run, out: Path, accelerator: Accelerator, resume: bool = False, changed: Mapping[str, object] | None = None
) -> Outcome:
    """Train; ``out/last`` resumes exactly, ``out/best`` has the best validation, and the rest tells how it went (see
    `signet_train.stages.progress`).

    Data, dropout and Gumbel noise of a step follow from (seed, step, process) alone, so a run that was killed goes
    on from ``out/last`` as if it never had been. A step's loss is the mean over all its tokens (Stage II: samples),
    however they were divided into forward passes and processes. SIGINT and SIGTERM end it after the step that it is at,
    saved.

    Args:
        changed: settings that a run that is resumed had others of; for its log.

    Raises:
        InputError: the data do not fill a single step.
        OutputError: a checkpoint cannot be written.
        CheckpointError: the run was another number of processes'.
        TrainingError: the loss is no number, or frozen experts have changed.
        Stopped: it was asked to stop.
    """
    config = run.checkpoint.config
    optimisation = config.optimisation
    order = _order(run, accelerator)
    steps = optimisation.epochs * order.steps_per_epoch
    # The device is the accelerator's for all that is to be moved, the experts that are not trained among it.
    run.objective.to(accelerator.device)
    frozen = _frozen_digest(run.checkpoint)
    optimizer = torch.optim.AdamW(parameter_groups(run), betas=(0.9, 0.999), weight_decay=optimisation.weight_decay)
    objective, optimizer = accelerator.prepare(run.objective, optimizer)
    progress = Progress(out, accelerator, resume, run)
    progress.describe(steps, order.steps_per_epoch, changed or {})
    if resume:
        progress.restore(optimizer)
    order.first = progress.step

    with stop_requests() as stop, contextlib.closing(progress):

        def keep(done: int, validated: bool) -> None:
            if _frozen_digest(run.checkpoint) != frozen:
                raise TrainingError("frozen experts have changed in training: this is a defect, please report it")
            found = None
            if validated:
                try:
                    found = run.validate(lambda: stop.check(accelerator))
                except KeyboardInterrupt:
                    progress.save(done, optimizer, None, unvalidated=True)
                    raise Stopped(out, done, steps) from None
            objective.train()
            progress.save(done, optimizer, found)

        if progress.unvalidated:
            keep(progress.step, validated=True)
        collate = Collate(run.checkpoint.tokenizer, config.data.max_target_tokens)
        batches = load_batches(run.dataset, order, collate, config.data.workers)
        objective.train()
        bar = tqdm(
            range(progress.step, steps),
            initial=progress.step,
            total=steps,
            unit="step",
            mininterval=2 if sys.stderr.isatty() else 30,
            desc=config.stage,
            disable=not accelerator.is_main_process,
        )
        for step in bar:
            torch.manual_seed(_step_seed(config.seed, step, accelerator.process_index))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(optimisation, group["peak"], step / order.steps_per_epoch)
            loss = _step(run, objective, optimizer, accelerator, islice(batches, optimisation.accumulation))
            if not math.isfinite(loss):
                raise TrainingError(f"step {step + 1}: the loss is {loss}; lower optimisation.lr, or look at the data")
            done = step + 1
            if done % _REPORT_EVERY == 0 or done == steps:
                bar.set_postfix(loss=f"{loss:.3f}", epoch=f"{done / order.steps_per_epoch:.1f}", refresh=False)
                progress.report(done, {"loss": loss, "lr": optimizer.param_groups[0]["lr"]})
            validated = done % (order.steps_per_epoch * optimisation.validate_every) == 0 or done == steps
            if validated or done % optimisation.save_every == 0:
                keep(done, validated)
            if stop.by_anyone(accelerator):
                if progress.saved != done:
                    progress.save(done, optimizer, None)
                raise Stopped(out, done, steps)
        batches.close()  # while a request is noted: what it raised in there would be lost
        if accelerator.is_main_process:
            write_page(out)
        if stop.by_anyone(accelerator):
            raise Stopped(out, steps, steps)
        best = progress.best * (1 if run.best == "lowest" else -1)
        return Outcome(max(progress.step, steps), progress.elapsed(), run.metric, best, progress.best_step)


def _step(
    run: Run, objective: torch.nn.Module, optimizer: Any, accelerator: Accelerator, batches: Iterator[Batch]
) -> float:
    """Take one optimiser step over several forward passes; gives the mean loss over all of them and all processes."""
    config = run.checkpoint.config.optimisation
    microbatches = [batch.to(accelerator.device) for batch in batches]
    count = torch.tensor(float(sum(run.objective.count(batch) for batch in microbatches)), device=accelerator.device)
    count = accelerator.reduce(count, reduction="sum")
    total = torch.zeros((), device=accelerator.device)
    for i, batch in enumerate(microbatches):
        # Gradients are exchanged once, after the last forward pass.
        exchange = accelerator.no_sync(objective) if i < len(microbatches) - 1 else contextlib.nullcontext()
        with exchange:
            part = objective(batch) / count
            # Processes' gradients are averaged, and their losses are parts of one sum.
            accelerator.backward(part * accelerator.num_processes)
        total += part.detach()
    accelerator.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], config.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    reduced = accelerator.reduce(total, reduction="sum")
    assert isinstance(reduced, Tensor)
    return float(reduced)


def _order(run: Run, accelerator: Accelerator) -> BatchOrder:
    config = run.checkpoint.config
    optimisation = config.optimisation
    rows = len(run.dataset)  # type: ignore[arg-type]
    return BatchOrder(
        rows,
        optimisation.batch_size,
        optimisation.accumulation,
        optimisation.epochs,
        config.seed,
        processes=accelerator.num_processes,
        rank=accelerator.process_index,
    )


def check_fills_a_step(rows: int, optimisation: OptimisationConfig, processes: int) -> None:
    """Know before a model is built that the data are too few for one step.

    Raises:
        InputError: they are.
    """
    needed = optimisation.batch_size * optimisation.accumulation * processes
    if rows < needed:
        raise InputError(
            f"the training split has {rows} samples, and a step takes {needed} (batch x accumulation x processes): "
            "lower optimisation.batch_size or accumulation, as by --set optimisation.accumulation=1"
        )


def _step_seed(seed: int, step: int, process: int) -> int:
    """Return a seed of its own for every step and process, the same in every run."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0])


def _frozen_digest(checkpoint: Checkpoint) -> list[str]:
    return [digest(e) for e in checkpoint.model.experts if not any(p.requires_grad for p in e.parameters())]
