"""What export makes of the encoder: every way of running it, one after another in the same loop, at paper size.

    python -m benchmarks.export                              the table, 20 rounds
    python -m benchmarks.export --small --repeats 3          the demo's size, in seconds
    python -m benchmarks.export --markdown benchmarks/results/export-cpu.md

Three experts, two of which the router picks; random weights and motion, which cost what real ones do. mT5's vocabulary
is left out: the encoder does not read it.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.measuring.report import header
from signet_export.encoder import OPSET, export_encoder
from signet_export.fuse import FusedEncoder
from signet_export.pinning import pin
from signet_export.quantize import quantize
from signet_runtime.engines.encoder import INPUTS, OUTPUTS
from signet_runtime.skeleton import REGIONS
from signet_train.checkpoint import Checkpoint, ExpertCard
from signet_train.config import DataConfig, FusionConfig, LanguageModelConfig, ModelConfig, TrainConfig
from signet_train.model.signet import Signet
from signet_train.tokenizer import train_tokenizer

_SMALL = {"input_channels": 8, "spatial_channels": (8, 16), "temporal_channels": (16, 16), "embedding": 64}


class Plain(nn.Module):
    """The training model with the engine's signature: what torch.onnx.export makes of it without us."""

    def __init__(self, model: Signet) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, body: Tensor, left_hand: Tensor, right_hand: Tensor, face: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As the engine's."""
        regions = dict(zip(REGIONS, (body, left_hand, right_hand, face), strict=True))
        states, mask, weights = self.model(regions, attention_mask.bool())
        return states, mask.long(), weights


def export_plain(model: Signet, path: Path) -> None:
    """Write the baseline: one call of torch.onnx.export."""
    example = (*(torch.randn(2, 16, len(r.joints), 3) for r in REGIONS.values()), torch.ones(2, 16, dtype=torch.int64))
    dynamic = {name: {0: "batch", 1: "frames"} for name in (*INPUTS, *OUTPUTS[:2])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Plain(model).eval(),
            example,
            str(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )


def random_checkpoint(small: bool) -> Checkpoint:
    """Three experts, k 2; statistics, adjacency and adapters away from their initial values."""
    torch.manual_seed(0)
    sizes = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16} if small else {}
    language_model = LanguageModelConfig.model_validate({"vocab_size": 64, **sizes})
    backbone = {"backbone": _SMALL} if small else {}
    config = ModelConfig.model_validate({**backbone, "fusion": FusionConfig(), "language_model": language_model})
    model = Signet(config, 3).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    cards = [
        ExpertCard(name=n, sign_languages=(n,), corpus="none", source="random", backbone=config.backbone)
        for n in ("csl", "ase", "bfi")
    ]
    run = TrainConfig(stage="finetune", model=config, data=DataConfig(manifests=()))
    return Checkpoint(model, cards, train_tokenizer(["abc"], 64), run)


def session(path: Path) -> Callable[[dict[str, np.ndarray]], object]:
    """One run of a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    loaded = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: loaded.run(None, feed)


@click.command()
@click.option("--frames", default=256, show_default=True)
@click.option("--repeats", default=20, show_default=True, help="Rounds; each runs every row once.")
@click.option("--small", is_flag=True, help="A model of the demo's size.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Also write the table here.")
def main(frames: int, repeats: int, small: bool, markdown: Path | None) -> None:
    """Time the encoder, one clip, on this CPU: eager, exported plainly, and as signet-export makes it."""
    checkpoint = random_checkpoint(small)
    model = checkpoint.model
    rng = np.random.default_rng(0)
    feed = {n: rng.uniform(-1, 1, (1, frames, len(r.joints), 3)).astype(np.float32) for n, r in REGIONS.items()}
    feed["attention_mask"] = np.ones((1, frames), np.int64)
    regions = {name: torch.from_numpy(feed[name]) for name in REGIONS}
    mask = torch.ones(1, frames, dtype=torch.bool)

    def eager(_: dict[str, np.ndarray]) -> object:
        with torch.no_grad():
            return model(regions, mask)

    with tempfile.TemporaryDirectory() as scratch:
        graphs = {name: Path(scratch, f"{name}.onnx") for name in ("plain", "dense", "topk", "pinned")}
        export_plain(model, graphs["plain"])
        export_encoder(FusedEncoder(model, "dense"), graphs["dense"])
        export_encoder(FusedEncoder(model, "topk"), graphs["topk"])
        export_encoder(FusedEncoder(pin(checkpoint, [0, 1]).model, "dense"), graphs["pinned"])
        for name in () if small else ("dense", "topk", "pinned"):  # small products are not worth it
            quantize(graphs[name], Path(scratch, f"{name}-int8.onnx"))
            graphs[f"{name}-int8"] = Path(scratch, f"{name}-int8.onnx")
        rows = {
            "PyTorch, eager": eager,
            "torch.onnx.export": session(graphs["plain"]),
            "fused, dense": session(graphs["dense"]),
            "fused, topk (2 of 3)": session(graphs["topk"]),
            "fused, pinned (2 of 3)": session(graphs["pinned"]),
        }
        for name in (name for name in graphs if name.endswith("-int8")):
            rows[f"fused, {name.replace('-', ', ')}"] = session(graphs[name])
        sizes = {name: path.stat().st_size / 1e6 for name, path in zip(list(rows)[1:], graphs.values(), strict=True)}
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repeats + 1):
        for name, run in rows.items():
            start = time.perf_counter()
            run(feed)
            times[name].append(time.perf_counter() - start)

    def ratios(name: str) -> str:
        warm = {n: t[1:] for n, t in times.items()}
        others = ("PyTorch, eager", "torch.onnx.export", "fused, dense")
        return " | ".join(f"{np.median(np.array(warm[other]) / np.array(warm[name])):.2f}" for other in others)

    lines = [
        f"{header()}; {frames} frames, {repeats} rounds. Ratios are medians over rounds.",
        "",
        "| encoder | median s | least s | times eager | times plain | times dense | MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, taken in times.items():
        size = f"{sizes[name]:.0f}" if name in sizes else ""
        lines.append(f"| {name} | {np.median(taken[1:]):.3f} | {min(taken[1:]):.3f} | {ratios(name)} | {size} |")
    table = "\n".join(lines)
    click.echo(table)
    if markdown is not None:
        markdown.write_text(f"`python -m benchmarks.export --frames {frames} --repeats {repeats}`\n\n{table}\n")


if __name__ == "__main__":
    main()
