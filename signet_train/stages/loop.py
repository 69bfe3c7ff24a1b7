"""The one training loop that every stage runs on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from signet_train.checkpoint import Checkpoint, load_training_state, save_checkpoint
from signet_train.config import TrainConfig
from signet_train.data.collate import Batch, collate
from signet_train.data.words import WordStream, held_out_words
from signet_train.metrics import character_error_rate
from signet_train.model.signet import Signet

StepLoss = Callable[[int], Tensor]  # the loss of one step, with its graph


def drawn_batch(checkpoint: Checkpoint, stream: WordStream, index: int) -> Batch:
    """Batch ``index`` of the stream, on the model's device."""
    batch = collate(*stream.batch(index), checkpoint.tokenizer)
    return batch.to(next(checkpoint.model.parameters()).device)


def parameter_groups(model: Signet, config: TrainConfig) -> list[dict[str, Any]]:
    """What is trained, and how fast: the router has a learning rate of its own (Table 14)."""
    router = list(model.fusion.router.parameters()) if model.fusion is not None else []
    of_router = {id(p) for p in router}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in of_router]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": config.lr}]
    if router:
        groups.append({"params": router, "lr": config.router_lr})
    return groups


def cosine(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine from 1 to min_lr / lr."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    floor = config.min_lr / config.lr
    return floor + (1 - floor) * 0.5 * (1 + float(torch.cos(torch.tensor(progress * torch.pi))))


def train(checkpoint: Checkpoint, out: Path, step_loss: StepLoss, resume: bool = False) -> None:
    """Train ``checkpoint.model`` by its configuration; the last and the best state go to ``out``.

    ``out/last`` is written atomically at every validation and resumes exactly: ``step_loss`` draws its data
    from (seed, step) alone, and optimiser, schedule and random state are stored. ``out/best`` has the lowest character
    error rate on held-out words. ``out/log.jsonl`` has a line per report.
    """
    config, model = checkpoint.config, checkpoint.model
    optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.999), weight_decay=config.weight_decay)
    schedules = [lambda step: cosine(config, step), lambda step: (step >= config.router_warmup) * cosine(config, step)]
    schedule = LambdaLR(optimizer, schedules[: len(optimizer.param_groups)])
    first, best = 0, float("inf")
    torch.manual_seed(config.seed)
    if resume:
        state = load_training_state(out / "last")
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        first, best = state["step"], state["best"]

    out.mkdir(parents=True, exist_ok=True)
    model.train()
    losses: list[float] = []
    started = time.monotonic()
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        for step in tqdm(range(first, config.steps), initial=first, total=config.steps, mininterval=5, unit="step"):
            loss = step_loss(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if (step + 1) % 50 == 0:
                row = {"step": step + 1, "loss": sum(losses) / len(losses), "seconds": time.monotonic() - started}
                losses.clear()
                log.write(json.dumps(row) + "\n")
                log.flush()
            if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
                rates = evaluate(checkpoint, words_per_language=10)
                rate = sum(rates.values()) / len(rates)
                log.write(json.dumps({"step": step + 1, "cer": rate, "by_language": rates}) + "\n")
                log.flush()
                if rate <= best:
                    best = rate
                    save_checkpoint(out / "best", checkpoint)
                state = {
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "random": torch.get_rng_state(),
                    "step": step + 1,
                    "best": best,
                }
                save_checkpoint(out / "last", checkpoint, state)
                model.train()


def evaluate(checkpoint: Checkpoint, words_per_language: int, num_beams: int = 1) -> dict[str, float]:
    """Character error rate on held-out words by sign language, leaving the model in eval mode."""
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    rates = {}
    for sign_language in checkpoint.config.data.sign_languages:
        sequences, texts = held_out_words(sign_language, words_per_language, checkpoint.config.data)
        hypotheses: list[str] = []
        for start in range(0, len(texts), 20):
            part = slice(start, start + 20)
            batch = collate(sequences[part], texts[part], checkpoint.tokenizer).to(device)
            tokens = model.generate(batch.regions, batch.mask, num_beams=num_beams, max_new_tokens=24)
            hypotheses += checkpoint.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        rates[sign_language] = character_error_rate(texts, hypotheses)
    return rates
