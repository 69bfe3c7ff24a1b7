"""The encoder engine as it is deployed: the same function as `Signet.forward`, in fewer and larger products.

What is folded: every BatchNorm into the matrices before it; a graph convolution's subsets into one product after one
aggregation; five-tap convolutions into F(4, 5) filters; the parts' offset into the projection; an adapter's LayerNorm
into its matrices. Left and right hand are one batch. Experts, which are of one size, can be stacked, so that one launch
serves all of them; on a CPU one after another is faster, whose intermediate results stay in the cache.

Within the experts tensors are (N, 4, T/4, B, J, C): N stacked experts, frame t at [t % 4, t // 4] (see `winograd`), B
clips, joints, channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mt5.modeling_mt5 import MT5Stack

from signet_export.winograd import TILE, convolve, transform_filters, transforms
from signet_runtime.skeleton import LEFT_WRIST, NOSE, RIGHT_WRIST
from signet_train.model.adapter import Adapter
from signet_train.model.aggregation import hand_prior
from signet_train.model.backbone import Backbone, Stream
from signet_train.model.router import top_k_weights
from signet_train.model.signet import Signet, sinusoids
from signet_train.model.stgcn import GraphConvolution, JointBatchNorm, STGCNBlock, STGCNStage, TemporalConvolution

Routing = Literal["topk", "dense"]


class Product(nn.Module):
    """x W + b for N experts; a single one's matrix is 2-D, which engines prepare in advance."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights[0].clone() if len(weights) == 1 else torch.stack(list(weights)))
        bias = torch.zeros(0) if biases is None else torch.stack(list(biases))[:, None]
        self.bias = nn.Parameter(bias[0, 0] if len(weights) == 1 and biases is not None else bias)
        self.biased = biases is not None
        self.n, self.into, self.out = len(weights), weights[0].shape[0], weights[0].shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (N, M, into) -> (N, M, out)."""
        if self.n == 1:
            x = x.reshape(-1, self.into)
        y = torch.matmul(x, self.weight)
        if self.biased:
            y = y + self.bias
        return y.view(self.n, -1, self.out)


def _scale_and_shift(norm: JointBatchNorm) -> tuple[Tensor, Tensor]:
    """Return what BatchNorm is in eval: x * scale + shift."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class Block(nn.Module):
    """`STGCNBlock` of N experts, folded."""

    def __init__(self, blocks: Sequence[STGCNBlock]) -> None:
        super().__init__()
        gathers, weights, biases = zip(*(_graph(block.gcn) for block in blocks), strict=True)
        self.gather = nn.Parameter(torch.stack(gathers)[:, None])
        self.graph = Product(weights)
        self.bias = nn.Parameter(torch.stack(biases)[:, None, None, None])
        self.n, self.joints, self.out = len(blocks), biases[0].shape[0], biases[0].shape[1]
        self.into = blocks[0].gcn.weight.shape[2]
        self.temporal = blocks[0].tcn is not None
        empty = torch.zeros(0)
        self.filters, self.filter_bias = nn.Parameter(empty), nn.Parameter(empty)
        self.outputs: Tensor
        self.inputs: Tensor
        outputs, _, inputs = transforms()
        self.register_buffer("outputs", outputs.to(self.bias.dtype))
        self.register_buffer("inputs", inputs.to(self.bias.dtype))
        if self.temporal:
            taps, tap_biases = zip(*(_taps(block.tcn) for block in blocks if block.tcn is not None), strict=True)
            self.filters = nn.Parameter(transform_filters(torch.stack(taps)))
            self.filter_bias = nn.Parameter(torch.stack(tap_biases)[:, None, None, None, None])
        self.projects = not isinstance(blocks[0].residual, nn.Identity)
        residuals = [_residual(block.residual) for block in blocks] if self.projects else [(empty[None], empty)]
        self.residual = Product([weight for weight, _ in residuals], [bias for _, bias in residuals])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Compute (N, 4, T/4, B, J, C) and mask (4, T/4, B, 1, 1) -> (N, 4, T/4, B, J, O)."""
        # What is dynamic is read off the mask alone: sizes of every tensor would be hundreds of nodes in a graph.
        tile, tiles, b = mask.shape[0], mask.shape[1], mask.shape[2]
        shape = [self.n, tile, tiles, b, self.joints, self.out]
        y = torch.matmul(self.gather, x.reshape(self.n, -1, self.joints, self.into))
        y = F.relu(self.graph(y.reshape(self.n, -1, self.graph.into)).view(shape) + self.bias)
        if self.temporal:
            y = (y * mask).view(self.n, tile, tiles, b * self.joints, self.out)
            y = convolve(y, self.filters, self.outputs, self.inputs).view(shape) + self.filter_bias
        if self.projects:
            x = self.residual(x.reshape(self.n, -1, self.into)).view(shape)
        return F.relu(y + x)


def _graph(gcn: GraphConvolution) -> tuple[Tensor, Tensor, Tensor]:
    """Return which joints each (joint, subset) gathers (J*K, J), its matrix (K*C, O), and a bias a joint (J, O)."""
    subsets, joints, _ = gcn.adjacency.shape
    scale, shift = _scale_and_shift(gcn.norm)
    gather = gcn.adjacency.permute(2, 0, 1).reshape(joints * subsets, joints)
    weight = (gcn.weight * scale[:, None]).permute(0, 2, 1).flatten(0, 1)
    return gather, weight, (gcn.adjacency.sum(dim=1).t() @ gcn.bias) * scale + shift


def _taps(tcn: TemporalConvolution) -> tuple[Tensor, Tensor]:
    scale, shift = _scale_and_shift(tcn.norm)
    assert tcn.conv.bias is not None
    return tcn.conv.weight[..., 0] * scale[:, None, None], tcn.conv.bias * scale + shift


def _residual(residual: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(residual, nn.Sequential) and isinstance(residual[0], nn.Linear)
    assert isinstance(residual[1], JointBatchNorm)
    scale, shift = _scale_and_shift(residual[1])
    return (residual[0].weight * scale[:, None]).t(), residual[0].bias * scale + shift


def _stack(stages: Sequence[STGCNStage]) -> nn.ModuleList:
    return nn.ModuleList(Block(blocks) for blocks in zip(*(s.blocks for s in stages), strict=True))


class FusedStream(nn.Module):
    """`Stream` of N experts."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        super().__init__()
        self.projection = Product([s.projection.weight.t() for s in streams], [s.projection.bias for s in streams])
        self.joints = cast(STGCNBlock, streams[0].spatial.blocks[0]).gcn.adjacency.shape[1]
        self.spatial = _stack([s.spatial for s in streams])
        self.temporal = _stack([s.temporal for s in streams])

    def lift(self, region: Tensor, mask: Tensor) -> Tensor:
        """Take a region (4, T/4, B, J, 3) through the projection and the spatial stage: (N, 4, T/4, B, J, C)."""
        shape = [self.projection.n, mask.shape[0], mask.shape[1], mask.shape[2], self.joints, self.projection.out]
        x = self.projection(region.reshape(1, -1, 3)).view(shape)
        for block in self.spatial:
            x = block(x, mask)
        return x

    def over_time(self, x: Tensor, mask: Tensor) -> Tensor:
        """Compute the temporal stage and the mean over joints: (N, B, T, C)."""
        for block in self.temporal:
            x = block(x, mask)
        return x.mean(dim=4).permute(0, 3, 2, 1, 4).flatten(2, 3)


class Refinement(nn.Module):
    """From the parts' features to adapted embeddings, of N experts: the projection of Eq. 2 and Eq. 12."""

    def __init__(self, experts: Sequence[Backbone], adapters: Sequence[Adapter]) -> None:
        super().__init__()
        bias = [e.projection.bias + e.part_offset @ e.projection.weight.t() for e in experts]
        self.projection = Product([e.projection.weight.t() for e in experts], bias)
        self.adapts, self.width, self.eps = bool(adapters), experts[0].config.embedding, 1e-5
        none = [torch.zeros(1, 1)]
        self.down = Product([a.norm.weight[:, None] * a.down for a in adapters] or none)
        self.up = Product(
            [a.up for a in adapters] or none, [a.norm.bias @ a.down @ a.up for a in adapters] or [none[0][0]]
        )
        if adapters:
            self.eps = adapters[0].norm.eps

    def forward(self, features: Tensor) -> Tensor:
        """Project and adapt (N, B, T, 4C), in the order of Eq. 2 -> (N, B, T, E)."""
        n, b, t, c = features.shape
        z = self.projection(features.reshape(n, b * t, c))
        if self.adapts:
            z = z + self.up(self.down(F.layer_norm(z, [self.width], eps=self.eps)))
        return z.view(n, b, t, self.width)


class Remainder(nn.Module):
    """All that experts compute once they are chosen: body over time, face, projection, adapter."""

    def __init__(self, experts: Sequence[Backbone], adapters: Sequence[Adapter]) -> None:
        super().__init__()
        self.body = FusedStream([e.body for e in experts])
        self.face = FusedStream([e.face for e in experts])
        self.refine = Refinement(experts, adapters)
        self.injects, self.nose = experts[0].config.body_injection, NOSE

    def forward(self, hands: Tensor, body: Tensor, face: Tensor, mask: Tensor) -> Tensor:
        """Compute (N, B, T, E) of experts that are chosen.

        Args:
            hands: features of both (N, B, T, 2C), left first.
            body: after its spatial stage, which the hands needed; without body injection the region.
            face: the region.
        """
        lifted = self.face.lift(face, mask)
        if self.injects:
            lifted = lifted + body[:, :, :, :, self.nose].unsqueeze(4)
        else:
            body = self.body.lift(body, mask)
        over_time = self.body.over_time(body, mask)
        return self.refine(torch.cat([over_time, hands, self.face.over_time(lifted, mask)], dim=3))


class IfChosen(nn.Module):
    """One expert's remainder, or zeros where no clip of the batch was sent to it. Scripted before it is traced."""

    def __init__(self, remainder: Remainder) -> None:
        super().__init__()
        self.remainder = remainder

    def forward(self, weight: Tensor, hands: Tensor, body: Tensor, face: Tensor, mask: Tensor) -> Tensor:
        """Compute with weight (B,) of the expert; the rest as in `Remainder`, of this expert alone -> (1, B, T, E)."""
        if bool((weight > 0).any()):
            fused = self.remainder(hands, body, face, mask)
        else:
            shape = [1, hands.shape[1], hands.shape[2], self.remainder.refine.width]
            fused = torch.zeros(shape, dtype=hands.dtype, device=hands.device)
        return fused


class Hands(nn.Module):
    """What the router needs of N experts: both hands, and with body injection the body's spatial stage."""

    def __init__(self, experts: Sequence[Backbone]) -> None:
        super().__init__()
        self.injects = experts[0].config.body_injection
        self.hand = FusedStream([e.hand for e in experts])
        self.body = FusedStream([e.body for e in experts]) if self.injects else None

    def forward(self, both: Tensor, body: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read left, then right hands (4, T/4, 2B, 21, 3), the body's region -> features (N, 2B, T, C), the body."""
        twice = torch.cat([mask, mask], dim=2)
        hands = self.hand.lift(both, twice)
        if self.body is not None:
            body = self.body.lift(body, mask)
            wrists = torch.cat([body[:, :, :, :, LEFT_WRIST], body[:, :, :, :, RIGHT_WRIST]], dim=3)
            hands = hands + wrists.unsqueeze(4)
        return self.hand.over_time(hands, twice), body


class FusedEncoder(nn.Module):
    """`Signet.forward` with the engine's signature, folded.

    Args:
        model: in eval mode; its experts' and adapters' weights are copied, the rest is shared.
        routing: ``dense`` computes every expert whole. ``topk`` computes of an expert that no clip of the batch is sent
            to only what the router and body injection need: its hands, and with injection its body's spatial stage.
        stacked: ``dense`` only: one product for all experts, not one each.
    """

    prompt: Tensor

    def __init__(self, model: Signet, routing: Routing = "topk", stacked: bool = False) -> None:
        super().__init__()
        experts: list[Backbone] = list(model.experts)  # type: ignore[arg-type]
        fusion = model.routed
        adapters = [a for a in fusion.adapters if isinstance(a, Adapter)] if fusion is not None else []
        self.skips = routing == "topk" and fusion is not None and fusion.router.top_k < len(experts)
        size = len(experts) if stacked and not self.skips else 1
        groups = [slice(i, i + size) for i in range(0, len(experts), size)]
        with torch.no_grad():
            self.hands = nn.ModuleList(Hands(experts[group]) for group in groups)
            remainders = [Remainder(experts[group], adapters[group]) for group in groups]
            self.remainders = (
                nn.ModuleList(IfChosen(r) for r in remainders) if self.skips else nn.ModuleList(remainders)
            )
        self.aggregation = fusion.aggregation if fusion is not None else None
        self.router = fusion.router.mlp if fusion is not None else None
        self.top_k = fusion.router.top_k if fusion is not None else 1
        language_model = model.language_model
        self.encoder = cast(MT5Stack, language_model.get_encoder())
        with torch.no_grad():
            self.register_buffer("prompt", language_model.get_input_embeddings()(model.prompt).clone())
        self.absolute_positions = model.config.language_model.absolute_positions
        self.num_experts, self.embedding = len(experts), experts[0].config.embedding
        self.hand_width = experts[0].config.temporal_channels[-1]

    def forward(
        self, body: Tensor, left_hand: Tensor, right_hand: Tensor, face: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode regions (B, T, J, 3), mask (B, T) int64 -> states (B, P+T, E), their mask, routing weights (B, N)."""
        fused, weights = self.fuse(body, left_hand, right_hand, face, attention_mask)
        return *self.read(fused[:, : body.shape[1]], attention_mask), weights

    def read(self, fused: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read Z_fused (B, T, E) with the mT5 encoder, after the prompt: its states, and the mask of both."""
        if self.absolute_positions:
            fused = fused + sinusoids(fused.shape[1], fused.shape[2]).to(fused)
        prompt = self.prompt.expand(fused.shape[0], -1, -1)
        mask = torch.cat([torch.ones_like(prompt[:, :, 0], dtype=torch.int64), attention_mask], dim=1)
        read = torch.cat([prompt.to(fused), fused], dim=1)
        return self.encoder(inputs_embeds=read, attention_mask=mask).last_hidden_state, mask

    def fuse(
        self, body: Tensor, left_hand: Tensor, right_hand: Tensor, face: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return Z_fused (B, T, E), T rounded up to whole tiles, and routing weights (B, N)."""
        mask = in_tiles(attention_mask.to(body.dtype)[:, :, None, None])  # (4, T/4, B, 1, 1)
        both = torch.cat([in_tiles(left_hand), in_tiles(right_hand)], dim=2)
        body, face = in_tiles(body), in_tiles(face)
        seen = [hands(both, body, mask) for hands in self.hands]
        left, right = torch.cat([features for features, _ in seen]).chunk(2, dim=1)  # (N, B, T, C) each
        tile, tiles, b = mask.shape[:3]
        weights = self.route(left, right, mask.permute(2, 1, 0, 3, 4).reshape(b, tiles * tile))
        adapted = []
        for i, (remainder, (features, lifted)) in enumerate(zip(self.remainders, seen, strict=True)):
            pair = torch.cat(features.chunk(2, dim=1), dim=3)
            adapted.append(
                remainder(weights[:, i], pair, lifted, face, mask)
                if self.skips
                else remainder(pair, lifted, face, mask)
            )
        return (weights.t()[:, :, None, None] * torch.cat(adapted)).sum(dim=0), weights

    def route(self, left: Tensor, right: Tensor, mask: Tensor) -> Tensor:
        """Route by the hands' features, (N, B, T, C) each, and mask (B, T) -> routing weights (B, N)."""
        if self.aggregation is None or self.router is None:
            return torch.ones_like(mask[:, :1])
        n, b = left.shape[0], mask.shape[0]
        prior = hand_prior(left.flatten(0, 1), right.flatten(0, 1), mask.repeat(n, 1)).view(n, b, -1)
        return top_k_weights(self.router(self.aggregation(prior.transpose(0, 1))), self.top_k)


def in_tiles(x: Tensor) -> Tensor:
    """Cut (B, T, J, C), with zeros after its end, into whole tiles -> (4, T/4, B, J, C)."""
    b, t, j, c = x.shape
    tiles = (t + TILE - 1) // TILE
    return F.pad(x, (0, 0, 0, 0, 0, tiles * TILE - t)).view(b, tiles, TILE, j, c).permute(2, 1, 0, 3, 4)
