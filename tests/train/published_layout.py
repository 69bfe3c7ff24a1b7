"""Checkpoints in Uni-Sign's published layout and the authors' with random weights, and what the pose encoder computes.

All are written from the description of the layouts (names, shapes, order of operations), apart from the importers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import MT5Config, MT5ForConditionalGeneration

PARTS = {"body": 9, "left": 21, "right": 21, "face_all": 18}
_CHANNELS = {
    "gcn_modules": [("layer0_0", 64, 64), ("layer1_0", 64, 128), ("layer2_0", 128, 256)],
    "fusion_gcn_modules": [("layer0_0", 256, 256), ("layer0_1", 256, 256), ("layer0_2", 256, 256)],
}


PRIOR = 512  # of the hand priors, both hands


def small_mt5(d_model: int = 32) -> MT5Config:
    return MT5Config(vocab_size=96, d_model=d_model, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0)


def published_state(mt5: MT5Config | None = None, seed: int = 0) -> dict[str, Tensor]:
    """A whole checkpoint: pose encoder and mT5, a small one by default; no tensor has its initial value."""
    mt5 = mt5 or small_mt5()
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=g) * scale

    def norm(name: str, channels: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + draw(channels, scale=0.2),
            f"{name}.bias": draw(channels, scale=0.2),
            f"{name}.running_mean": draw(channels, scale=0.2),
            f"{name}.running_var": torch.rand(channels, generator=g) + 0.5,
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    def convolution(name: str, out: int, into: int, kernel: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": draw(out, into, kernel, 1, scale=(into * kernel) ** -0.5),
            f"{name}.bias": draw(out, scale=0.1),
        }

    state: dict[str, Tensor] = {"part_para": draw(1024, scale=0.1)}
    for part, joints in PARTS.items():
        if part == "left":  # the same modules as the right hand's
            continue
        state |= {f"proj_linear.{part}.weight": draw(64, 3, scale=0.5), f"proj_linear.{part}.bias": draw(64, scale=0.1)}
        for modules, layers in _CHANNELS.items():
            for layer, into, out in layers:
                name = f"{modules}.{part}.{layer}"
                state[f"{name}.gcn.A"] = draw(2, joints, joints, scale=0.3)
                state |= convolution(f"{name}.gcn.conv", 2 * out, into, 1) | norm(f"{name}.gcn.bn", out)
                if modules == "fusion_gcn_modules":
                    state |= convolution(f"{name}.tcn.0", out, out, 5) | norm(f"{name}.tcn.1", out)
                if into != out:
                    state |= convolution(f"{name}.residual.0", out, into, 1) | norm(f"{name}.residual.1", out)
    state |= {k.replace(".right.", ".left."): v for k, v in state.items() if ".right." in k}
    state |= {"pose_proj.weight": draw(mt5.d_model, 1024, scale=0.03), "pose_proj.bias": draw(mt5.d_model, scale=0.1)}
    return state | _mt5_state(mt5, seed)


def _mt5_state(config: MT5Config, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    made = MT5ForConditionalGeneration(config)
    return {f"mt5_model.{name}": tensor.clone() for name, tensor in made.state_dict().items()}


def gate_state(experts: int = 3, mt5: MT5Config | None = None, seed: int = 9) -> dict[str, Tensor]:
    """The authors' gate around an mT5, a small one by default."""
    mt5 = mt5 or small_mt5()
    g = torch.Generator().manual_seed(seed)

    def linear(name: str, out: int, into: int) -> dict[str, Tensor]:
        weight, bias = torch.randn(out, into, generator=g) * into**-0.5, torch.randn(out, generator=g) * 0.3
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    def norm(name: str, width: int) -> dict[str, Tensor]:
        return {f"{name}.weight": torch.rand(width, generator=g) + 0.5, f"{name}.bias": torch.randn(width, generator=g)}

    state = linear("router.0", 128, PRIOR) | linear("router.2", experts, 128)
    state |= linear("query_mlp.0", PRIOR, PRIOR) | linear("query_mlp.2", PRIOR, PRIOR) | norm("gate_norm", PRIOR)
    for i in range(experts):
        state |= norm(f"adapters.{i}.norm", mt5.d_model)
        state[f"adapters.{i}.A.weight"] = torch.randn(16, mt5.d_model, generator=g) * 0.2
        state[f"adapters.{i}.B.weight"] = torch.randn(mt5.d_model, 16, generator=g) * 0.2
    return state | _mt5_state(mt5, seed)


def embeddings(state: dict[str, Tensor], regions: dict[str, Tensor]) -> Tensor:
    """The published pose encoder on unpadded clips: regions (B, T, J, 3) by our names -> (B, T, d_model)."""
    ours = {"body": "body", "left": "left_hand", "right": "right_hand", "face_all": "face"}
    features, body = [], torch.empty(0)
    for part in PARTS:
        x = F.linear(regions[ours[part]], state[f"proj_linear.{part}.weight"], state[f"proj_linear.{part}.bias"])
        x = _chain(state, f"gcn_modules.{part}", x.permute(0, 3, 1, 2))  # (B, C, T, J)
        if part == "body":
            body = x
        else:
            x = x + body[..., {"left": -2, "right": -1, "face_all": 0}[part], None]
        features.append(_chain(state, f"fusion_gcn_modules.{part}", x).mean(-1).transpose(1, 2))
    concat = torch.cat(features, dim=-1) + state["part_para"]
    return F.linear(concat, state["pose_proj.weight"], state["pose_proj.bias"])


def _chain(state: dict[str, Tensor], modules: str, x: Tensor) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, scale, shift = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, scale, shift)

    def convolve(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=(padding, 0))

    for layer, _, out in _CHANNELS[modules.split(".")[0]]:
        name = f"{modules}.{layer}"
        residual = x
        if f"{name}.residual.0.weight" in state:
            residual = norm(f"{name}.residual.1", convolve(f"{name}.residual.0", x))
        x = convolve(f"{name}.gcn.conv", x).unflatten(1, (2, out))
        x = F.relu(norm(f"{name}.gcn.bn", torch.einsum("nkctv,kvw->nctw", x, state[f"{name}.gcn.A"])))
        if f"{name}.tcn.0.weight" in state:
            x = norm(f"{name}.tcn.1", convolve(f"{name}.tcn.0", x, padding=2))
        x = F.relu(x + residual)
    return x
