"""What a run is made of: the model's size, the data, the schedule. Read from TOML, checked by pydantic."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from signet_runtime.errors import ConfigError
from signet_runtime.regions import LONG_CLIPS, NORMALISATIONS


def _later(default: Any) -> Any:
    """Return a setting that came later than others: checkpoints that have its default load in a package without it."""
    return Field(default=default, exclude_if=lambda chosen: chosen == default)


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

    adapter_rank: int = 16  # 0: no adapters (Table 8)
    adapter_dropout: float = 0.1
    # "identity" is the paper's start: A small, B = 0. "redrawn" is where the authors' code arrives: both matrices drawn
    # again, like any linear layer there (docs/official.md).
    adapter_start: Literal["identity", "redrawn"] = _later("identity")
    # What the paper compares its router with: all experts in equal parts, or side by side (Tables 8 and 10). A model
    # without a router is for comparison, and is not exported.
    gating: Literal["router", "average", "concatenate"] = "router"
    # What the router knows of a clip: the hands, as the paper has it, or more of the body too (Table 7).
    router_reads: Literal["hands", "hands+body", "hands+body+face"] = "hands"
    query_hidden: int = 512
    attention_dropout: float = _later(0.0)  # of the weights of Algorithm 1, in training; 0.1 in the authors' code
    # The paper does not state the width; 1728 brings the trainable part to its 1.5M (Table 5). The authors' is 128.
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
    # Text that mT5 reads before the signs. The paper has none; models that were published with one need it.
    prompt: str | None = None


class ModelConfig(_Strict):
    """A whole SIGNET: N experts of one size, how they are fused (None: a single expert, Stage I), and the mT5."""

    backbone: BackboneConfig = BackboneConfig()
    fusion: FusionConfig | None = None
    language_model: LanguageModelConfig = LanguageModelConfig()


class DataConfig(_Strict):
    """Which samples, and what is done to them."""

    manifests: tuple[Path, ...]  # one corpus out of several, if need be
    train: str = "train"  # the names of the splits
    validation: str = "dev"
    sign_languages: tuple[str, ...] = ()  # rows of these alone; empty: all
    # The model's clock, in frames a second. None takes every recording as it is.
    frame_rate: float | None = None
    # Its experts' in Stages II and III. Experts that are published are unisign; causal can be read along while somebody
    # signs. Called profile in checkpoints and in older configurations.
    normalisation: Literal[NORMALISATIONS] = Field(  # type: ignore[valid-type]
        default="unisign",
        validation_alias=AliasChoices("normalisation", "profile"),
        serialization_alias="profile",
    )
    # Of a longer clip: by "sampled" a random sorted subset in training and an even one otherwise, by "first" its
    # beginning, as the authors' readers of How2Sign and MeineDGS have it.
    max_frames: int = 256
    long_clips: Literal[LONG_CLIPS] = _later("sampled")  # type: ignore[valid-type]
    max_target_tokens: int = 50
    noise: float = 0.01  # sigma on x and y of confident joints, in normalised units (Appendix B)
    frame_drop: float = 0.15  # of the frames, at random (Appendix B)
    # Other cameras, other hands, lost hands: for corpora of a single signer, which the paper has not.
    vary_signer: bool = False
    cache: Path | None = None  # Stages II and III: features that `signet-train cache` computed
    workers: int = 4


class OptimisationConfig(_Strict):
    """Optimiser and schedule (Table 14)."""

    epochs: int = 20
    warmup_epochs: float = 0
    batch_size: int = 8  # samples a process and forward pass
    accumulation: int = 4  # forward passes a step
    lr: float = 3e-4
    min_lr: float = 1e-7
    router_lr: float = 8e-4
    weight_decay: float = 1e-4
    label_smoothing: float = 0.2
    clip_norm: float = 1.0
    precision: Literal["no", "bf16"] = "no"
    temperature: float = 0.07  # Stage II: where Eq. 9's learned temperature starts
    learn_temperature: bool = _later(True)  # False: it stays there, as in the authors' code
    save_every: int = 1000  # steps between two checkpoints, beside the one after every epoch


class ModelCard(_Strict):
    """What the exported bundle says of itself."""

    name: str = "signet"
    language: str = "und"  # of the text, BCP 47; "mul" for several
    notice: str | None = None  # shown to whoever uses the bundle
    pose_estimator: str = "rtmpose-performance"  # whose keypoints the training data are
    num_beams: int = 4
    max_new_tokens: int = 100


class TrainConfig(_Strict):
    """One run of one stage."""

    stage: Literal["pretrain", "align", "finetune"]
    task: Literal["translate", "recognise"] = "translate"
    model: ModelConfig = ModelConfig()
    data: DataConfig
    optimisation: OptimisationConfig = OptimisationConfig()
    card: ModelCard = ModelCard()
    # A pretrained mT5, as a directory or a name on the Hugging Face hub: what Stage I starts from, and Stage II's
    # frozen text encoder. None: Stage I starts from nothing, and Stage II's text encoder is the mT5 it starts from.
    mt5: str | None = None
    experts: tuple[Path, ...] = ()  # Stages II and III: the checkpoints whose frozen backbones are the experts
    # Stages II and III: the checkpoint whose mT5 (and fusion, if it has one) the stage starts from. None: by the
    # rule of Sec. 3.7, see `signet_train.stages.plan`.
    start_from: Path | None = None
    allow_leak: bool = False  # experts that were trained on the very corpus of this run; the paper's were not
    train_experts: bool = False  # Stage III without fusion: the backbone learns too (Table 6)
    tokenize: str | None = None  # sacrebleu's, for validation; None: by the text's language
    seed: int = 0


def load_config(path: Path) -> TrainConfig:
    """Read a TOML file; relative paths in it are relative to the working directory.

    Raises:
        ConfigError: no such file, not TOML, or a setting that is unknown or of the wrong kind.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(Path(path).read_text()))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {faults}") from None
