"""How large a model, how long a training: by what data there are, and by what machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.sources.video import Video
from signet_train.config import BackboneConfig, LanguageModelConfig
from signet_train.data.manifest import Row
from signet_train.data.poses import load_poses, poses_exist
from signet_train.data.workers import available_cpus
from signet_train.memory import memory_of

_PROBED = 200  # recordings that are opened to know rates and lengths

# From nothing, up to so many samples: backbone and language model. The first are the demo's.
_SMALL: list[tuple[float, dict[str, Any], dict[str, Any]]] = [
    (
        1000,
        {"input_channels": 16, "spatial_channels": [16, 32, 64], "temporal_channels": [64], "embedding": 128},
        {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4},
    ),
    (
        20_000,
        {"input_channels": 32, "spatial_channels": [32, 64, 128], "temporal_channels": [128, 128], "embedding": 256},
        {"d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 3, "num_heads": 4},
    ),
    (
        math.inf,
        {"embedding": 512},
        {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 6, "num_heads": 8},
    ),
]
_STEPS = {"pretrain": 600, "align": 200, "finetune": 300}  # at least, of a model that starts from nothing
_ROOM = 1.25  # a clip of tomorrow may be longer than those of today
_SLOW_CLOCK = 12.5  # frames a second that are enough to read, where a CPU has to do it
_EPOCHS = {"pretrain": 20, "align": 20, "finetune": 40}  # the paper's (Table 14)


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to train on: CPUs, memory in GB, and a GPU's, None without one; bf16: whether that is fast."""

    cpus: int
    memory: float
    gpu: float | None
    bf16: bool

    def __str__(self) -> str:
        gpu = "no GPU" if self.gpu is None else f"a GPU of {self.gpu:.0f} GB"
        return f"{self.cpus} CPUs, {self.memory:.0f} GB, {gpu}"


def this_machine() -> Machine:
    """Return what there is here."""
    import torch

    memory = memory_of("cpu") / 1e9
    if not torch.cuda.is_available():
        return Machine(available_cpus(), memory, None, bf16=False)
    properties = torch.cuda.get_device_properties(0)
    return Machine(available_cpus(), memory, properties.total_memory / 1e9, bf16=properties.major >= 8)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Rates and lengths of recordings: frames a second, and seconds of the clips."""

    rates: np.ndarray
    seconds: np.ndarray

    @property
    def common_rate(self) -> float:
        """The lowest rate: what all recordings can be read at."""
        return float(self.rates.min())


def measure(rows: Sequence[Row], root: Path) -> Lengths:
    """Look at up to 200 recordings, evenly over all, or at their keypoints where these are there.

    Raises:
        InputError: none of them can be read; the first's reason.
    """
    rates, seconds = [], []
    problem: InputError | None = None
    for i in np.unique(np.linspace(0, len(rows) - 1, min(_PROBED, len(rows))).astype(int)):
        try:
            rate, length = _probe(rows[i], root)
        except InputError as error:
            problem = problem or error
            continue
        rates.append(rate)
        seconds.append(length)
    if not rates:
        raise problem or InputError("no recording has a length")
    return Lengths(np.array(rates), np.array(seconds))


def _probe(row: Row, root: Path) -> tuple[float, float]:
    if poses_exist(row.poses, root) or row.video is None:
        sequence = load_poses(row.poses, root)
        return sequence.fps, sequence.duration
    if (root / row.video).is_dir():
        rate = row.fps or 25.0
        return rate, sum(1 for _ in (root / row.video).iterdir()) / rate
    with Video(root / row.video, start=row.start, end=row.end) as video:
        rate, frames = video.info.fps, video.info.num_frames
    if row.end is not None:
        return rate, row.end - (row.start or 0)
    return rate, frames / rate if frames else 10.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Settings by section and key, each with the reason to write beside it."""

    settings: dict[str, dict[str, tuple[Any, str]]]

    def of(self, section: str) -> dict[str, tuple[Any, str]]:
        return self.settings[section]


def stage_sizes(
    stage: str, samples: int, lengths: Lengths, longest_text: int, machine: Machine, mt5: str | None, few_signers: bool
) -> Sizes:
    """Choose what a stage's configuration says of model, data and schedule.

    Args:
        samples: of the training split.
        longest_text: in characters, of the targets.
        mt5: the pretrained language model; None starts from nothing.
        few_signers: whether all are one signer, or it is not known.
    """
    small = mt5 is None
    clock = lengths.common_rate
    if small and machine.gpu is None:
        clock = clock / math.ceil(clock / _SLOW_CLOCK)
    clock = float(f"{clock:.4g}")
    frames = float(np.percentile(lengths.seconds, 95)) * clock
    most = int(min(256, max(32, 8 * math.ceil(_ROOM * frames / 8))))
    tokens = min(256, longest_text + 3) if small else 50
    batch, accumulation = _batch(samples, small, machine)
    steps = max(1, samples // (batch * accumulation))
    epochs = max(_EPOCHS[stage], min(400, -(-_STEPS[stage] // steps))) if small else _EPOCHS[stage]
    every = max(1, min(epochs, 20 if steps < 20 else 5) * epochs // 400)
    data = {
        "frame_rate": (clock, f"the model's clock; recordings have {_range(lengths.rates)} frames a second"),
        "max_frames": (most, f"19 of 20 clips have no more than {frames:.0f} frames at this clock"),
        "max_target_tokens": (tokens, f"the longest text has {longest_text} characters"),
        "workers": (min(4, machine.cpus), "processes that load samples"),
    }
    if small:
        data["noise"] = (0.003, "as for the demo, whose models are as small; the paper has 0.01")
        data["frame_drop"] = (0.08, "the same; the paper has 0.15")
    if few_signers:
        data["vary_signer"] = (True, "one signer, or it is not known who signs: makes others of them")
    optimisation = {
        "epochs": (epochs, f"{epochs * steps} steps"),
        "warmup_epochs": (round(epochs / 20, 1), "a twentieth"),
        "batch_size": (batch, f"{samples} training samples, {machine}"),
        "accumulation": (accumulation, f"{batch * accumulation} samples a step"),
        "lr": (1e-3 if small else 3e-4, "a small model learns faster" if small else "the paper's (Table 14)"),
        "label_smoothing": (0.1 if small else 0.2, "as the demo" if small else "the paper's (Table 14)"),
        "precision": ("bf16" if machine.bf16 else "no", "this machine's GPU" if machine.bf16 else "fp32: no fast bf16"),
        "save_every": (200, "steps; what a power cut loses at most"),
        "validate_every": (every, "epochs"),
    }
    card = {
        "num_beams": (4, "the paper's (Table 14)"),
        "max_new_tokens": (tokens if small else 100, "no longer texts are written"),
    }
    return Sizes({"data": data, "optimisation": optimisation, "card": card, **_model(samples, small)})


def _model(samples: int, small: bool) -> dict[str, dict[str, tuple[Any, str]]]:
    if not small:
        size = LanguageModelConfig()
        return {"model.backbone": {"embedding": (size.d_model, "mT5-base's width; the rest is the paper's")}}
    _, backbone, language_model = next(size for size in _SMALL if samples < size[0])
    why = f"for {samples} samples; the paper's has {BackboneConfig().embedding}"
    return {
        "model.backbone": {key: (value, why if key == "embedding" else "") for key, value in backbone.items()},
        "model.language_model": {
            **{key: (value, "") for key, value in language_model.items()},
            "dropout": (0.1, ""),
            "absolute_positions": (True, "a language model that has not read text cannot tell order otherwise"),
        },
    }


def _batch(samples: int, small: bool, machine: Machine) -> tuple[int, int]:
    if small:
        return max(1, min(32, samples // 2)), 1
    batch = 1 if machine.gpu is None else 8 if machine.gpu > 20 else 4 if machine.gpu > 14 else 2
    batch = min(batch, samples)
    return batch, max(1, min(32, samples) // batch)


def _range(values: np.ndarray) -> str:
    low, high = values.min(), values.max()
    return f"{low:.4g}" if high - low < 0.01 * high else f"{low:.4g} to {high:.4g}"
