"""What a run is made of: the model's size, the data, the schedule. Read from TOML, checked by pydantic."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from signet_runtime.errors import BundleError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneConfig(_Strict):
    """One expert's ST-GCN streams (Tables 11 and 12). The defaults are the paper's size."""

    input_channels: int = 64
    spatial_channels: tuple[int, ...] = (64, 128, 256)
    temporal_channels: tuple[int, ...] = (256, 256, 256)
    temporal_kernel: int = 5
    embedding: int = 768
    dropout: float = 0.0
    # Adds the body's wrist and nose features to hands and face between the two stages. The paper's text has
    # four parallel streams; the published encoder that its Tables 11 and 12 describe has this link.
    body_injection: bool = True


class FusionConfig(_Strict):
    """Adapters, hand-prior aggregation and router (Sec. 3.4-3.6, Appendix B)."""

    adapter_rank: int = 16
    adapter_dropout: float = 0.1
    query_hidden: int = 512
    # The paper does not state the width; 1728 brings the trainable part to its 1.5M (Table 5).
    router_hidden: int = 1728
    gumbel_temperature: float = 1.0
    top_k: int = 2


class LanguageModelConfig(_Strict):
    """The mT5 that writes the sentence. The defaults are mT5-base's."""

    vocab_size: int = 250_112
    d_model: int = 768
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 12
    num_heads: int = 12
    dropout: float = 0.1
    # mT5 tells order by relative biases that it learned on text, so the published weights want False. One that
    # starts from nothing takes far longer to read letters in their order unless positions are added to its input.
    absolute_positions: bool = False


class ModelConfig(_Strict):
    """A whole SIGNET: N experts of one size, how they are fused (None: a single expert, Stage I), and the mT5."""

    backbone: BackboneConfig = BackboneConfig()
    fusion: FusionConfig | None = None
    language_model: LanguageModelConfig = LanguageModelConfig()


class DataConfig(_Strict):
    """Spelled words from real signers' letter clips (`signet_train.data.fingerspelling`)."""

    sign_languages: tuple[str, ...]
    # Letter clips of these signers are never shown, for a signer-independent figure.
    held_out: tuple[str, ...] = ()
    frame_rate: float = 6.25
    max_letters: int = 8
    letters_per_batch: int = 100  # so that short words come in larger batches
    # Steps at which words grow to 2, 3, ... letters; past the last one, real words.
    curriculum: tuple[int, ...] = ()
    # Directory of letter clips that were drawn and read back by the pose estimator (`signet-train redraw`).
    redrawn: Path | None = None


class ModelCard(_Strict):
    """What the exported bundle says of itself."""

    name: str = "signet"
    language: str = "und"  # of the text, BCP 47; "mul" for several
    notice: str | None = None  # shown to whoever uses the bundle
    pose_estimator: str = "mediapipe"  # whose keypoints the training data are
    max_new_tokens: int = 100


class TrainConfig(_Strict):
    """Optimiser and schedule (Table 14)."""

    stage: Literal["pretrain", "finetune"]
    model: ModelConfig = ModelConfig()
    data: DataConfig
    card: ModelCard = ModelCard()
    experts: tuple[Path, ...] = ()  # Stage III: the checkpoints whose frozen backbones are the experts
    language_model_from: Path | None = None  # Stage III: the checkpoint whose mT5 is tuned further; None: a fresh one
    steps: int
    reuse: int = 1  # Stage III: how often each batch of the frozen experts' features is trained on
    lr: float = 3e-4
    router_lr: float = 8e-4
    min_lr: float = 1e-7
    warmup: int = 0
    # Steps for which the router stands still, so that the mT5 learns to read every expert. Without them a router
    # is drawn to the one expert that an inherited mT5 can read already, and never leaves it.
    router_warmup: int = 0
    weight_decay: float = 1e-4
    label_smoothing: float = 0.2
    clip_norm: float = 1.0
    seed: int = 0
    validate_every: int = 500


def load_config(path: Path) -> TrainConfig:
    """Read a TOML file; relative paths in it are relative to the working directory.

    Raises:
        BundleError: no such file, not TOML, or a setting that is unknown or of the wrong kind.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(Path(path).read_text()))
    except FileNotFoundError:
        raise BundleError(f"{path}: no such configuration file") from None
    except tomllib.TOMLDecodeError as error:
        raise BundleError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BundleError(f"{path}: {faults}") from None
