"""What training costs: loading samples, one Stage III step at paper size, and the experts in a loop or stacked.

    python -m benchmarks.training                      all three, on CUDA where there is one
    python -m benchmarks.training --small              the demo's size, in seconds

Weights are random and clips synthetic; the cost is that of real ones. Ratios are of alternating runs of one process.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from signet_runtime.pose.files import write_keypoints
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import REGIONS
from signet_train.checkpoint import demo_checkpoint_path, load_checkpoint
from signet_train.config import DataConfig, FusionConfig, ModelConfig, OptimisationConfig, TrainConfig
from signet_train.data.batches.collate import Batch, Collate, load_batches
from signet_train.data.batches.dataset import LocatedRow, PoseDataset
from signet_train.data.batches.sampling import BatchOrder
from signet_train.data.manifest import Row
from signet_train.data.workers import available_cpus
from signet_train.model.backbone import Backbone
from signet_train.model.signet import Signet
from signet_train.stages.objectives import Translation, set_trainable

SAMPLES, TOKENS = 64, 32


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Return the fastest of a few runs, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def loading(frames: int, workers: int) -> float:
    """Milliseconds for a batch of 8, from files with the paper's augmentation, once the workers are running."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        rng = np.random.default_rng(0)
        rows = []
        for i in range(SAMPLES):
            keypoints = rng.uniform(0, 1, (frames, 133, 2)).astype(np.float32)
            poses = PoseSequence(keypoints, rng.uniform(0, 1, (frames, 133)), 25.0, (1280, 720), "rtmpose")
            write_keypoints(root / f"{i}.npz", poses)
            row = Row(id=str(i), split="train", poses=f"{i}.npz", text="word", language="en", sign_language="ase")
            rows.append(LocatedRow(row, root))
        config = TrainConfig(stage="pretrain", data=DataConfig(manifests=()), optimisation=OptimisationConfig())
        collate = Collate(load_checkpoint(demo_checkpoint_path()).tokenizer, 50)
        order = BatchOrder(SAMPLES, 8, 1, epochs=10, seed=0)
        batches = load_batches(PoseDataset(rows, config, training=True), order, collate, workers)
        for _ in range(16):
            next(batches)
        start = time.perf_counter()
        count = sum(1 for _ in batches)
        return 1000 * (time.perf_counter() - start) / count


def random_batch(batch: int, frames: int, vocabulary: int, device: torch.device) -> Batch:
    """Clips of full length, so that nothing is saved on padding."""
    regions = {name: torch.rand(batch, frames, len(region.joints), 3) for name, region in REGIONS.items()}
    names = [str(i) for i in range(batch)]
    mask, labels = torch.ones(batch, frames, dtype=torch.bool), torch.randint(3, vocabulary, (batch, TOKENS))
    return Batch(names, names, mask, labels, regions).to(device)


def stacked_features(experts: torch.nn.ModuleList) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """All experts as one, their weights stacked: embeddings (N, B, T, E)."""
    parameters, buffers = stack_module_state(list(experts))
    first = experts[0]

    def one(
        weights: dict[str, Tensor], statistics: dict[str, Tensor], regions: dict[str, Tensor], mask: Tensor
    ) -> Tensor:
        return functional_call(first, (weights, statistics), (regions, mask)).embeddings

    run = vmap(one, in_dims=(0, 0, None, None))
    return lambda regions, mask: run(parameters, buffers, regions, mask)


def compare_experts(experts: torch.nn.ModuleList, batch: Batch, device: torch.device) -> tuple[float, float, float]:
    """Seconds of a Python loop and of the stacked experts, and how far their results lie apart."""
    assert isinstance(experts[0], Backbone)
    stacked = stacked_features(experts)

    def loop() -> Tensor:
        return torch.stack([expert(batch.regions, batch.mask).embeddings for expert in experts])

    with torch.no_grad():
        apart = (loop() - stacked(batch.regions, batch.mask)).abs().max().item()
        times = [
            (seconds(loop, device, 1), seconds(lambda: stacked(batch.regions, batch.mask), device, 1)) for _ in range(2)
        ]
    return min(t[0] for t in times), min(t[1] for t in times), apart


@click.command()
@click.option("--small", is_flag=True, help="The demo's model and short clips.")
@click.option("--frames", default=256, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--workers", default=4, show_default=True, help="For loading; no more than CPUs.")
@click.option("--precision", type=click.Choice(["no", "bf16"]), help="[default: bf16 on CUDA, else no]")
@click.option("--device", help="[default: cuda where there is one]")
def main(small: bool, frames: int, batch_size: int, workers: int, precision: str | None, device: str | None) -> None:
    """Print what a training step at paper size costs here: mT5-base, three experts, router width 1728."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    precision = precision or ("bf16" if where.type == "cuda" else "no")
    click.echo(f"{name}; batch {batch_size}, {frames} frames, {TOKENS} tokens, precision {precision}")
    workers = min(workers, available_cpus())
    click.echo(f"loading 8 samples of {frames} frames, {workers} workers: {loading(frames, workers):.0f} ms")

    config = load_checkpoint(demo_checkpoint_path()).config.model if small else ModelConfig(fusion=FusionConfig())
    torch.manual_seed(0)
    model = Signet(config, 3).to(where)
    set_trainable(model, "finetune", train_experts=False)
    batch = random_batch(batch_size, frames, config.language_model.vocab_size, where)
    model.eval()
    looped, together, apart = compare_experts(model.experts, batch, where)
    click.echo(f"three experts, one after another: {looped * 1000:.0f} ms")
    click.echo(
        f"three experts, stacked: {together * 1000:.0f} ms, {looped / together:.2f} times as fast, {apart:.0e} apart"
    )

    objective = Translation(model.train(), 0.2)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-4)

    def step() -> None:
        with torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = objective(batch) / batch.labels.numel()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def forward() -> None:
        with torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16"):
            objective(batch)

    click.echo(f"Stage III, forward pass: {seconds(forward, where, 2) * 1000:.0f} ms")
    click.echo(f"Stage III, forward, backward, AdamW: {seconds(step, where, 2) * 1000:.0f} ms")
    if where.type == "cuda":
        click.echo(f"peak GPU memory: {torch.cuda.max_memory_allocated(where) / 2**30:.1f} GiB")
    else:
        click.echo(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
