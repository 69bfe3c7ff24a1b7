"""SIGNET: frozen experts, adapters, hand-prior router, mT5 (Fig. 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from signet_train.config import LanguageModelConfig, ModelConfig
from signet_train.model.backbone import Backbone
from signet_train.model.fusion import Features, Fusion, Unrouted, router_prior


class Encoded(NamedTuple):
    """What the decoder attends to. P is the prompt's length.

    hidden_states: (B, P+T, E) after the mT5 encoder; mask: (B, P+T) bool, False on padding; routing_weights: (B, N).
    """

    hidden_states: Tensor
    mask: Tensor
    routing_weights: Tensor


def sinusoids(length: int, channels: int, longest: float = 100.0) -> Tensor:
    """Return absolute positions (length, channels), with wavelengths from 2 pi to 2 pi * ``longest`` frames."""
    # As numbers, not as operations: exported, each runtime would round them in a way of its own, and a last digit of a
    # rate is 1e-5 of an angle 300 frames on.
    rates = torch.tensor([longest ** (-i / (channels // 2)) for i in range(channels // 2)])
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def build_language_model(config: LanguageModelConfig) -> MT5ForConditionalGeneration:
    """Make a freshly initialised mT5 of the given size."""
    model = MT5ForConditionalGeneration(
        MT5Config(
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            d_kv=config.d_kv,
            d_ff=config.d_ff,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout_rate=config.dropout,
            decoder_start_token_id=0,
        )
    )
    # transformers draws an untied output head with deviation 1, as if it would be rescaled like a tied one:
    # training from scratch would begin at several times the loss of a uniform guess.
    nn.init.normal_(model.lm_head.weight, std=config.d_model**-0.5)
    return model


class Signet(nn.Module):
    """Keypoints -> text. With ``config.fusion`` None it is Stage I's single expert and its language model.

    Args:
        config: sizes; every expert has ``config.backbone``'s.
        num_experts: N. With fusion they get no gradients. An expert without gradients is frozen: always in eval.
        language_model: an mT5 of ``config.language_model``'s size; None makes a fresh one.
    """

    def __init__(
        self, config: ModelConfig, num_experts: int, language_model: MT5ForConditionalGeneration | None = None
    ) -> None:
        super().__init__()
        if config.fusion is None and num_experts != 1:
            raise ValueError("several experts need a fusion configuration")
        self.config = config
        self.experts = nn.ModuleList(Backbone(config.backbone) for _ in range(num_experts))
        self.fusion: Fusion | Unrouted | None = None
        if config.fusion is not None:
            self.fusion = (Fusion if config.fusion.gating == "router" else Unrouted)(config, num_experts)
            self.experts.requires_grad_(False)
        self.language_model = language_model or build_language_model(config.language_model)
        self.prompt: Tensor
        self.register_buffer("prompt", torch.empty(0, dtype=torch.int64), persistent=False)  # (P,) token ids

    @property
    def routed(self) -> Fusion | None:
        """The fusion, where it has a router."""
        return self.fusion if isinstance(self.fusion, Fusion) else None

    def read_prompt(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Tokenise ``config.language_model.prompt``, end of sentence included, as T5's tokenizer writes any text."""
        text = self.config.language_model.prompt
        if text is not None:
            self.prompt = torch.tensor(tokenizer(text).input_ids, device=self.prompt.device)

    def train(self, mode: bool = True) -> Signet:
        """Set training or evaluation, in which frozen experts always stay; returns itself."""
        super().train(mode)
        for expert in self.experts:
            if not any(p.requires_grad for p in expert.parameters()):
                expert.eval()  # frozen includes the running statistics
        return self

    def features(self, regions: dict[str, Tensor], mask: Tensor) -> Features:
        """Compute what the experts see: regions, mask (B, T) bool. Frozen experts make this a constant of the data."""
        outputs = [expert(regions, mask) for expert in self.experts]
        reads = self.config.fusion.router_reads if self.config.fusion is not None else "hands"
        return Features(
            torch.stack([o.embeddings for o in outputs], dim=1),
            torch.stack([router_prior(o, mask, reads) for o in outputs], dim=1),
        )

    def fuse(self, features: Features) -> tuple[Tensor, Tensor]:
        """Adapt, route and sum: Z_fused (B, T, E) and routing weights (B, N)."""
        if self.fusion is None:
            return features.embeddings[:, 0], torch.ones_like(features.priors[:, :, 0])
        return self.fusion(features)

    def encode(self, features: Features, mask: Tensor) -> Encoded:
        """Read the prompt and the fused embeddings with the mT5 encoder; mask (B, T) bool."""
        fused, weights = self.fuse(features)
        if self.config.language_model.absolute_positions:
            fused = fused + sinusoids(fused.shape[1], fused.shape[2]).to(fused)
        if len(self.prompt):
            prompt = self.language_model.get_input_embeddings()(self.prompt)
            fused = torch.cat([prompt.to(fused).expand(fused.shape[0], -1, -1), fused], dim=1)
            mask = torch.cat([mask.new_ones(mask.shape[0], len(self.prompt)), mask], dim=1)
        encoder = self.language_model.get_encoder()
        states = encoder(inputs_embeds=fused, attention_mask=mask.long()).last_hidden_state
        return Encoded(states, mask, weights)

    def forward(self, regions: dict[str, Tensor], mask: Tensor) -> Encoded:
        """Compute what the encoder engine does."""
        return self.encode(self.features(regions, mask), mask)

    def logits(self, features: Features, mask: Tensor, labels: Tensor) -> Tensor:
        """Predict every target token from those before; labels (B, L) int64 -> (B, L, V)."""
        encoded = self.encode(features, mask)
        return self.language_model(
            encoder_outputs=BaseModelOutput(encoded.hidden_states),  # type: ignore[arg-type]
            attention_mask=encoded.mask.long(),
            decoder_input_ids=self.language_model.prepare_decoder_input_ids_from_labels(labels),
        ).logits

    @torch.no_grad()
    def generate(self, features: Features, mask: Tensor, num_beams: int, max_new_tokens: int) -> Tensor:
        """Generate token ids (B, L) by greedy or beam search, transformers' own."""
        return self.generate_ranked(features, mask, num_beams, max_new_tokens, 1)[0][:, 0]

    @torch.no_grad()
    def generate_ranked(
        self, features: Features, mask: Tensor, num_beams: int, max_new_tokens: int, count: int
    ) -> tuple[Tensor, Tensor]:
        """Generate the ``count`` best of ``num_beams`` beams: ids (B, count, L), and scores (B, count).

        A score is the mean log-probability of a text's pieces, which the search
        ranks by; greedy search, of one beam, has none: 0.
        """
        encoded = self.encode(features, mask)
        found: Any = self.language_model.generate(
            encoder_outputs=BaseModelOutput(encoded.hidden_states),  # type: ignore[arg-type]
            attention_mask=encoded.mask.long(),
            num_beams=num_beams,
            num_return_sequences=count,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=count > 1,
        )
        tokens = found.sequences.unflatten(0, (len(mask), count))
        scores = getattr(found, "sequences_scores", None) if count > 1 else None
        return tokens, torch.zeros(tokens.shape[:2]) if scores is None else scores.unflatten(0, (len(mask), count))
