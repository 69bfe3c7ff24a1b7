"""The one training loop that every stage runs on."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from signet_runtime.errors import CheckpointError, ConfigError, InputError, TrainingError
from signet_runtime.files import whole_file
from signet_train.checkpoint import Checkpoint, load_training_state, recover_checkpoint, save_checkpoint
from signet_train.config import OptimisationConfig, TrainConfig
from signet_train.data.batches.cache import digest
from signet_train.data.batches.collate import Batch, Collate, load_batches
from signet_train.data.batches.sampling import BatchOrder
from signet_train.stages.objectives import Alignment, Translation

_log = logging.getLogger(__name__)
_REPORT_EVERY = 20  # steps


@dataclass
class Run:
    """One stage's training.

    Attributes:
        checkpoint: the model and what is saved with it.
        objective: the loss, a module that holds the model.
        dataset: training samples by `Key`.
        validate: gives the validation figures by name, on every process; ``metric`` among them decides what is best.
        best: which end of ``metric`` is good.
    """

    checkpoint: Checkpoint
    objective: Translation | Alignment
    dataset: torch.utils.data.Dataset
    validate: Callable[[], dict[str, float]]
    metric: str
    best: Literal["highest", "lowest"]


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
        raise ConfigError('optimisation.precision: bf16 needs a GPU; on a CPU it is far slower than fp32: say "no"')
    return Accelerator(mixed_precision=precision, cpu=device == "cpu")


def train(run: Run, out: Path, accelerator: Accelerator, resume: bool = False) -> None:
    """Train; ``out/last`` resumes exactly, ``out/best`` has the best validation, ``out/log.jsonl`` and
    ``out/tensorboard`` tell how it went.

    Data, dropout and Gumbel noise of a step follow from (seed, step, process) alone, so a run that was killed goes
    on from ``out/last`` as if it never had been. A step's loss is the mean over all its tokens (Stage II: samples),
    however they were divided into forward passes and processes.

    Raises:
        InputError: the data do not fill a single step.
        OutputError: a checkpoint cannot be written.
        CheckpointError: the run was another number of processes'.
        TrainingError: the loss is no number, or frozen experts have changed.
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
    if resume:
        optimizer.load_state_dict(progress.state["optimizer"])
        if isinstance(run.objective, Alignment):
            run.objective.log_temperature.data.fill_(progress.state["log_temperature"])
    order.first = progress.step

    collate = Collate(run.checkpoint.tokenizer, config.data.max_target_tokens)
    batches = load_batches(run.dataset, order, collate, config.data.workers)
    objective.train()
    bar = tqdm(
        range(progress.step, steps),
        initial=progress.step,
        total=steps,
        unit="step",
        mininterval=2,
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
        validated = done % order.steps_per_epoch == 0
        if validated or done % optimisation.save_every == 0:
            if _frozen_digest(run.checkpoint) != frozen:
                raise TrainingError("frozen experts have changed in training: this is a defect, please report it")
            figures = run.validate() if validated else None
            objective.train()
            progress.save(done, optimizer, figures)


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


class Progress:
    """What a run leaves in its directory, and where it goes on from."""

    def __init__(self, out: Path, accelerator: Accelerator, resume: bool, run: Run) -> None:
        self.out, self.accelerator, self.run = out, accelerator, run
        self.started = time.monotonic()
        self.step, self.best = 0, math.inf
        self.state: dict[str, Any] = {}
        if resume:
            self.state = load_training_state(out / "last")
            if self.state["processes"] != accelerator.num_processes:
                raise CheckpointError(
                    f"{out}: was trained by {self.state['processes']} processes, and these are "
                    f"{accelerator.num_processes}: a run goes on with as many as it began"
                )
            self.step, self.best = self.state["step"], self.state["best"]
        self.writer: SummaryWriter | None = None
        if accelerator.is_main_process:
            out.mkdir(parents=True, exist_ok=True)
            _cut_log(out / "log.jsonl", self.step)
            self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=self.step)

    def report(self, step: int, figures: dict[str, float]) -> None:
        """Write one line to the log, one point to each of TensorBoard's curves."""
        if self.writer is None:
            return
        row = {"step": step, "seconds": round(time.monotonic() - self.started, 1), **figures}
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def save(self, step: int, optimizer: Any, figures: dict[str, float] | None) -> None:
        """Save ``last``, and after a validation that is the best so far, ``best``."""
        run = self.run
        better = False
        if figures is not None:
            self.report(step, figures)
            value = figures[run.metric] * (1 if run.best == "lowest" else -1)
            better = value <= self.best
            self.best = min(self.best, value)
        if self.accelerator.is_main_process:
            state = {
                "optimizer": optimizer.state_dict(),
                "step": step,
                "best": self.best,
                "processes": self.accelerator.num_processes,
            }
            if isinstance(run.objective, Alignment):
                state["log_temperature"] = run.objective.log_temperature.item()
            if better:
                save_checkpoint(self.out / "best", run.checkpoint)
            save_checkpoint(self.out / "last", run.checkpoint, state)
        self.accelerator.wait_for_everyone()


def prepare_directory(out: Path, config: TrainConfig, resume: bool) -> None:
    """See that ``out`` is a new run's, or the one that is to go on.

    Raises:
        CheckpointError: it holds a run already, or none to resume, or the run had another configuration.
    """
    recover_checkpoint(out / "last")
    if not resume:
        if (out / "last").exists():
            raise CheckpointError(f"{out}: holds a run already; go on with it by --resume, or give another --out")
        return
    file = out / "last" / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{out}: no checkpoint to resume from; start the run without --resume")
    before, now = TrainConfig.model_validate_json(file.read_text()), config
    if before != now:
        differing = [name for name in TrainConfig.model_fields if getattr(before, name) != getattr(now, name)]
        raise CheckpointError(f"{out}: the run had another {', '.join(differing)}; resume with the same")


def _order(run: Run, accelerator: Accelerator) -> BatchOrder:
    config = run.checkpoint.config
    optimisation = config.optimisation
    rows = len(run.dataset)  # type: ignore[arg-type]
    order = BatchOrder(
        rows,
        optimisation.batch_size,
        optimisation.accumulation,
        optimisation.epochs,
        config.seed,
        processes=accelerator.num_processes,
        rank=accelerator.process_index,
    )
    if not order.steps_per_epoch:
        needed = optimisation.batch_size * optimisation.accumulation * accelerator.num_processes
        raise InputError(
            f"the training split has {rows} samples, and a step takes {needed} (batch x accumulation x processes): "
            "lower optimisation.batch_size or accumulation"
        )
    return order


def _step_seed(seed: int, step: int, process: int) -> int:
    """Return a seed of its own for every step and process, the same in every run."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0])


def _frozen_digest(checkpoint: Checkpoint) -> list[str]:
    return [digest(e) for e in checkpoint.model.experts if not any(p.requires_grad for p in e.parameters())]


def _cut_log(path: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint: it will be done again."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step]
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept))
