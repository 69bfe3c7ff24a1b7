"""What a run leaves in its directory, and where it goes on from.

last, best             checkpoints: the last one resumes, the best validation's is what is exported
run.json               what is trained: the configuration, sizes, where it runs
log.jsonl              a line every few steps and every validation; report.html and tensorboard show the same
validation.jsonl       all texts of the last validation beside their references
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from signet_runtime.boundary import parse_json, read_text, reading
from signet_runtime.errors import CheckpointError
from signet_runtime.files import reporting, whole_file
from signet_train.checkpoint import load_checkpoint_config, load_training_state, recover_checkpoint, save_checkpoint
from signet_train.config import TrainConfig
from signet_train.evaluation.predictions import write_predictions
from signet_train.report.page import write_page
from signet_train.stages.objectives import Alignment
from signet_train.stages.recipe import Run
from signet_train.stages.validation import Validation

_SAMPLES = 12  # texts of a validation that are shown, the same rows every time

# What a run may be resumed with another value of: none of them makes what was learned so far wrong.
_OF_A_STEP = ("processes", "optimisation.batch_size", "optimisation.accumulation")
_MAY_CHANGE = (
    *("optimisation.epochs", "optimisation.save_every", "optimisation.validate_every"),
    *("data.workers", "tokenize", "card."),
)


class Progress:
    """The directory of a run that is going on; on processes other than the first it writes nothing.

    Attributes:
        step: how many steps were done when it began.
        unvalidated: whether it was stopped in the validation that is due at that step.
        best, best_step: the validation figure that decides (the lower the better), and the step that had it.
        seconds: how long the run had taken until then.
    """

    def __init__(self, out: Path, accelerator: Accelerator, resume: bool, run: Run) -> None:
        self.out, self.accelerator, self.run = out, accelerator, run
        self.step, self.best, self.best_step, self.seconds, self.unvalidated = 0, math.inf, 0, 0.0, False
        self.state: dict[str, Any] = {}
        if resume:
            self.state = load_training_state(out / "last")
            self.step, self.best = self.state["step"], self.state["best"]
            self.best_step, self.seconds = self.state.get("best_step", 0), self.state.get("seconds", 0.0)
            self.unvalidated = self.state.get("unvalidated", False)
        self.began = time.monotonic() - self.seconds
        self.saved = self.step
        self.writer: SummaryWriter | None = None
        if accelerator.is_main_process:
            with reporting(out):
                out.mkdir(parents=True, exist_ok=True)
                _cut_log(out / "log.jsonl", self.step, run.metric if self.unvalidated else None)
                self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=self.step)

    def restore(self, optimizer: Any) -> None:
        """Give the optimiser, and what else is learned, the state of the run that goes on.

        Raises:
            CheckpointError: the state is of another model, or damaged.
        """
        with reading(self.out / "last" / "training_state.pt", CheckpointError, "the state of this run"):
            optimizer.load_state_dict(self.state["optimizer"])
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    for name, tensor in optimizer.state.get(weight, {}).items():
                        if name != "step" and tensor.shape != weight.shape:
                            raise ValueError(f"{name} {tuple(tensor.shape)} of a weight {tuple(weight.shape)}")
            if isinstance(self.run.objective, Alignment):
                self.run.objective.log_temperature.data.fill_(self.state["log_temperature"])

    def describe(self, steps: int, steps_per_epoch: int, changed: Mapping[str, Any]) -> None:
        """Write what is trained, and what is another than before the run was resumed."""
        if self.writer is None:
            return
        model, config = self.run.checkpoint.model, self.run.checkpoint.config
        description = {
            "config": config.model_dump(mode="json", by_alias=True),
            "steps": steps,
            "steps_per_epoch": steps_per_epoch,
            "metric": self.run.metric,
            "weights": sum(p.numel() for p in model.parameters()),
            "trained_weights": sum(p.numel() for p in self.run.objective.parameters() if p.requires_grad),
            "experts": [card.name for card in self.run.checkpoint.experts],
            "samples": len(self.run.dataset),  # type: ignore[arg-type]
            "device": _device(self.accelerator.device),
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
        }
        with whole_file(self.out / "run.json") as temporary:
            temporary.write_text(json.dumps(description, indent=2, ensure_ascii=False), encoding="utf-8")
        if changed:
            self._log({"step": self.step, "changed": {key: list(values) for key, values in changed.items()}})

    def report(self, step: int, figures: Mapping[str, float]) -> None:
        """Write one line to the log, one point to each of TensorBoard's curves."""
        if self.writer is None:
            return
        self._log({"step": step, "seconds": self.elapsed(), **figures})
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def elapsed(self) -> float:
        """Return the seconds that the run has taken, over all its parts."""
        return round(time.monotonic() - self.began, 1)

    def save(self, step: int, optimizer: Any, found: Validation | None, unvalidated: bool = False) -> None:
        """Save ``last``, and after a validation that is the best so far, ``best``.

        ``unvalidated``: a validation is due at this step, and is done when the run goes on.
        """
        run = self.run
        better = False
        if found is not None:
            value = found.figures[run.metric] * (1 if run.best == "lowest" else -1)
            better = value <= self.best
            if better:
                self.best, self.best_step = value, step
            self._tell(step, found)
        if self.accelerator.is_main_process:
            state = {
                "optimizer": optimizer.state_dict(),
                "step": step,
                "best": self.best,
                "best_step": self.best_step,
                "seconds": self.elapsed(),
                "unvalidated": unvalidated,
                "processes": self.accelerator.num_processes,
            }
            if isinstance(run.objective, Alignment):
                state["log_temperature"] = run.objective.log_temperature.item()
            if better:
                save_checkpoint(self.out / "best", run.checkpoint)
            save_checkpoint(self.out / "last", run.checkpoint, state)
        self.saved = step
        self.accelerator.wait_for_everyone()

    def _tell(self, step: int, found: Validation) -> None:
        if self.writer is None:
            return
        row: dict[str, Any] = {"step": step, "seconds": self.elapsed(), **found.figures}
        if found.routing:
            row["routing"] = found.routing
        if found.predictions:
            chosen = found.predictions[:: max(1, -(-len(found.predictions) // _SAMPLES))]
            row["samples"] = [{"id": p.id, "reference": p.reference, "hypothesis": p.hypothesis} for p in chosen]
            table = "\n".join(f"| {p.id} | {p.reference} | {p.hypothesis} |" for p in chosen)
            self.writer.add_text("samples", f"| id | reference | written |\n|---|---|---|\n{table}", step)
            write_predictions(self.out / "validation.jsonl", found.predictions)
        self._log(row)
        for name, value in found.figures.items():
            self.writer.add_scalar(name, value, step)
        for language, by_k in found.routing.items():
            for k, shares in by_k.items():
                for expert, share in enumerate(shares):
                    self.writer.add_scalar(f"routing/{language}/k={k}/expert {expert}", share, step)
        self.writer.flush()
        write_page(self.out)

    def _log(self, row: Mapping[str, Any]) -> None:
        with reporting(self.out / "log.jsonl"), open(self.out / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Write what TensorBoard's writer still holds."""
        if self.writer is not None:
            self.writer.close()


def prepare_directory(out: Path, resume: bool) -> None:
    """See that ``out`` is a new run's, or has one that can go on.

    Raises:
        CheckpointError: it holds a run already, or none to resume.
    """
    recover_checkpoint(out / "last")
    if not resume and (out / "last").exists():
        raise CheckpointError(f"{out}: holds a run already; go on with it by --resume, or give another --out")
    if resume and not (out / "last" / "config.json").is_file():
        raise CheckpointError(f"{out}: no checkpoint to resume from; start the run without --resume")


def changes_since(out: Path, config: TrainConfig, processes: int) -> dict[str, tuple[Any, Any]]:
    """Return what a run that goes on with ``config`` had before, and what it has now, by the setting's dotted key.

    The number of processes may be another, and with it the batch and the accumulation, as long as a step takes as many
    samples: which ones follows from its number. In Stage II a forward pass must, too: its negatives are of one.

    Raises:
        CheckpointError: a setting is another that must not be, or the epochs end before what is done; it is named.
    """
    before = load_checkpoint_config(out / "last")
    then, now = (dict(_flat(c.model_dump(mode="json"))) for c in (before, config))
    changed = {key: (then.get(key), now.get(key)) for key in sorted({*then, *now}) if then.get(key) != now.get(key)}
    earlier = int(load_training_state(out / "last")["processes"])
    if earlier != processes:
        changed["processes"] = earlier, processes
    _check_same_step(out, before, earlier, config, processes)
    harmful = [key for key in changed if not key.startswith((*_MAY_CHANGE, *_OF_A_STEP))]
    if harmful:
        told = ", ".join(f"{key} was {changed[key][0]} and is {changed[key][1]}" for key in harmful[:3])
        more = f", and {len(harmful) - 3} more" if len(harmful) > 3 else ""
        raise CheckpointError(
            f"{out}: the run had other settings: {told}{more}; set them as they were, or give another --out "
            "(epochs, save_every, validate_every, workers and the card may change)"
        )
    return changed


def _check_same_step(out: Path, before: TrainConfig, earlier: int, config: TrainConfig, processes: int) -> None:
    then, now = before.optimisation, config.optimisation
    passes = then.batch_size * earlier, now.batch_size * processes
    steps = passes[0] * then.accumulation, passes[1] * now.accumulation
    if steps[0] != steps[1]:
        raise CheckpointError(
            f"{out}: a step took {steps[0]} samples (batch {then.batch_size} x accumulation {then.accumulation} x "
            f"{earlier} processes), and would take {steps[1]}: set optimisation.batch_size or accumulation so that it "
            "takes as many"
        )
    if config.stage == "align" and passes[0] != passes[1]:
        raise CheckpointError(
            f"{out}: a forward pass of all processes had {passes[0]} samples, and would have {passes[1]}: Stage II "
            "learns from the others of one, so set optimisation.batch_size such that it has as many"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _cut_log(path: Path, step: int, again: str | None) -> None:
    """Drop what a killed run logged after its last checkpoint, and at it the rows with ``again``: it is done again."""
    if not path.exists():
        return
    kept = []
    advice = "put it right, or move it away: the run goes on without it"
    for number, line in enumerate(read_text(path, "json_bytes", CheckpointError, "a run's log", advice).split("\n"), 1):
        if not line.endswith("}"):  # of a run that was killed
            continue
        where = f"{path}: line {number}"
        row = parse_json(line, where, CheckpointError, "of a run's log", advice)
        with reading(where, CheckpointError, "of a run's log", advice):
            if row["step"] <= step and not (row["step"] == step and again in row):
                kept.append(line)
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
