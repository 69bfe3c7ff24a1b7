"""What a run is made of: the model's size, the data, the schedule. Read from TOML, checked by pydantic."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from signet_runtime.errors import ConfigError
from signet_runtime.regions import LONG_CLIPS, NORMALISATIONS


def _later(default: Any) -> Any:
    """Return a setting that came later than others: checkpoints that have its default load in a package without it."""
    return Field(default=default, exclude_if=lambda chosen: chosen == default)


class _Strict(BaseModel):
    # What stands below a field is its description, which `signet-train config --explain` prints.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BackboneConfig(_Strict):
    """One expert's ST-GCN streams (Tables 11 and 12). The defaults are the paper's size."""

    input_channels: int = 64
    """Channels that a joint's x, y and confidence are lifted to (Table 11)."""
    spatial_channels: tuple[int, ...] = (64, 128, 256)
    """Channels of the spatial blocks, one number a block (Table 11)."""
    temporal_channels: tuple[int, ...] = (256, 256, 256)
    """Channels of the temporal blocks, one number a block (Table 11)."""
    temporal_kernel: int = 5
    """Frames that a temporal convolution looks at (Table 11)."""
    embedding: int = 768
    """Width of what an expert makes of a frame; mT5's `d_model` (Table 12)."""
    dropout: float = 0.0
    """In the temporal blocks. The paper states none."""
    body_injection: bool = True
    """Adds the body's wrist and nose features to hands and face between the two stages. The paper's text has four
    parallel streams; the published encoder that its Tables 11 and 12 describe has this link.
    """


class FusionConfig(_Strict):
    """Adapters, hand-prior aggregation and router (Sec. 3.4-3.6, Appendix B)."""

    adapter_rank: int = 16
    """Rank of the low-rank adapters (Sec. 3.4, Appendix B); 0: no adapters (Table 8)."""
    adapter_dropout: float = 0.1
    """In the adapters, in training (Appendix B)."""
    adapter_start: Literal["identity", "redrawn"] = _later("identity")
    """`identity` is the paper's start: A small, B = 0. `redrawn` is where the authors' code arrives: both matrices
    drawn again, like any linear layer there (docs/official.md).
    """
    gating: Literal["router", "average", "concatenate"] = "router"
    """`router`, or what the paper compares it with: all experts in equal parts, or side by side (Tables 8 and 10). A
    model without a router is for comparison, and is not exported.
    """
    router_reads: Literal["hands", "hands+body", "hands+body+face"] = "hands"
    """What the router knows of a clip: the hands, as the paper has it, or more of the body too (Table 7)."""
    query_hidden: int = 512
    """Width of the MLP that makes the aggregation's query (Algorithm 1)."""
    attention_dropout: float = _later(0.0)
    """Of the weights of Algorithm 1, in training; 0.1 in the authors' code."""
    router_hidden: int = 1728
    """Width of the router's MLP (Eq. 5). The paper does not state it; 1728 brings the trainable part to its 1.5M
    (Table 5). The authors' is 128.
    """
    gumbel_temperature: float = 1.0
    """Of the Gumbel-Softmax that mixes experts in training (Eq. 6, Appendix B)."""
    top_k: int = 2
    """Experts that a clip is sent to when a model is used (Eq. 8, Table 8). Training serves every k."""


class LanguageModelConfig(_Strict):
    """The mT5 that writes the sentence. The defaults are mT5-base's."""

    vocab_size: int = 250_112
    """Pieces of the vocabulary. A Stage I without `mt5` that leaves mT5-base's gets what its characters need."""
    d_model: int = 768
    """Width of mT5."""
    d_kv: int = 64
    """Width of an attention head."""
    d_ff: int = 2048
    """Width of the feed-forward layers."""
    num_layers: int = 12
    """Layers of the encoder, and of the decoder."""
    num_heads: int = 12
    """Attention heads."""
    dropout: float = 0.1
    """In all its layers, in training."""
    absolute_positions: bool = False
    """mT5 tells order by relative biases that it learned on text, so the published weights want false. One that starts
    from nothing takes far longer to read letters in their order unless positions are added to its input.
    """
    prompt: str | None = None
    """Text that mT5 reads before the signs. The paper has none; models that were published with one need it."""


class ModelConfig(_Strict):
    """A whole SIGNET: N experts of one size, how they are fused (None: a single expert, Stage I), and the mT5."""

    backbone: BackboneConfig = BackboneConfig()
    """An expert's size."""
    fusion: FusionConfig | None = None
    """How experts are fused; left out in Stage I, which has a single one."""
    language_model: LanguageModelConfig = LanguageModelConfig()
    """mT5's size."""


class DataConfig(_Strict):
    """Which samples, and what is done to them."""

    manifests: tuple[Path, ...]
    """The tables of the samples: one corpus out of several, if need be."""
    train: str = "train"
    """Name of the split that is trained on."""
    validation: str = "dev"
    """Name of the split that decides which checkpoint is best."""
    sign_languages: tuple[str, ...] = ()
    """Rows of these alone (ISO 639-3); empty: all."""
    frame_rate: float | None = None
    """The model's clock, in frames a second. Unset, every recording is taken as it is, and a bundle has the rate that
    its training data have in common.
    """
    normalisation: Literal[NORMALISATIONS] = Field(  # type: ignore[valid-type]
        default="unisign",
        validation_alias=AliasChoices("normalisation", "profile"),
        serialization_alias="profile",
    )
    """Its experts' in Stages II and III. Experts that are published are `unisign`; `causal` can be read along while
    somebody signs. Called profile in checkpoints and in older configurations.
    """
    max_frames: int = 256
    """Frames of a clip that the model sees at most. The paper leaves it open; 256 is its baselines'."""
    long_clips: Literal[LONG_CLIPS] = _later("sampled")  # type: ignore[valid-type]
    """Of a longer clip: by `sampled` a random sorted subset in training and an even one otherwise, by `first` its
    beginning, as the authors' readers of How2Sign and MeineDGS have it.
    """
    max_target_tokens: int = 50
    """Pieces of a sentence that are learned at most. The paper leaves it open."""
    noise: float = 0.01
    """Sigma on x and y of confident joints, in normalised units (Appendix B)."""
    frame_drop: float = 0.15
    """Share of the frames that are lost, at random, in training (Appendix B)."""
    vary_signer: bool = False
    """Other cameras, other hands, lost hands: for corpora of a single signer, which the paper has not."""
    cache: Path | None = None
    """Stages II and III: where the features are that `signet-train cache` computes."""
    workers: int = 4
    """Processes that load samples; no more than there are CPUs."""


class OptimisationConfig(_Strict):
    """Optimiser and schedule (Table 14)."""

    epochs: int = 20
    """How often the training split is gone through. May be raised when a run is resumed (Table 14)."""
    warmup_epochs: float = 0
    """Over so many the learning rate rises from 0 (Table 14)."""
    batch_size: int = 8
    """Samples a process and forward pass (Table 14)."""
    accumulation: int = 4
    """Forward passes a step (Table 14)."""
    lr: float = 3e-4
    """Highest learning rate (Table 14)."""
    min_lr: float = 1e-7
    """Learning rate at the end of the cosine (Table 14)."""
    router_lr: float = 8e-4
    """Highest learning rate of the router (Table 14)."""
    weight_decay: float = 1e-4
    """AdamW's (Table 14)."""
    label_smoothing: float = 0.2
    """Of the loss of Stages I and III (Eq. 3, Eq. 10, Table 14)."""
    clip_norm: float = 1.0
    """Gradients are clipped to this norm. The paper leaves it open."""
    precision: Literal["no", "bf16"] = "no"
    """`bf16` on a GPU that has it fast, as the paper's (Table 14); `no` is fp32."""
    temperature: float = 0.07
    """Stage II: where Eq. 9's learned temperature starts."""
    learn_temperature: bool = _later(True)
    """Whether Eq. 9's temperature is learned; in the authors' code it stays where it starts."""
    save_every: int = 1000
    """Steps between two checkpoints, beside the one after every validation."""
    validate_every: int = _later(1)
    """Epochs between two validations: more of them where an epoch is a few steps."""


class ModelCard(_Strict):
    """What the exported bundle says of itself."""

    name: str = "signet"
    """The bundle's name."""
    language: str | None = None
    """Of the text, BCP 47; `mul` for several. Unset, what the data say."""
    notice: str | None = None
    """Shown to whoever uses the bundle."""
    pose_estimator: str | None = None
    """Whose keypoints the training data are; `signet-translate` reads videos through it. Unset, what the data say."""
    num_beams: int = 4
    """Width of the beam search (Table 14)."""
    max_new_tokens: int = 100
    """Pieces that the model writes at most."""


class TrainConfig(_Strict):
    """One run of one stage."""

    stage: Literal["pretrain", "align", "finetune"]
    """Which stage this is (Fig. 2): pretrain is I, align II, finetune III."""
    task: Literal["translate", "recognise"] = "translate"
    """What is learned: sentences, or the glosses of isolated signs (Table 4)."""
    model: ModelConfig = ModelConfig()
    """Sizes of the model."""
    data: DataConfig
    """Which samples, and what is done to them."""
    optimisation: OptimisationConfig = OptimisationConfig()
    """Optimiser and schedule."""
    card: ModelCard = ModelCard()
    """What the exported bundle says of itself."""
    mt5: str | None = None
    """A pretrained mT5, as a directory or a name on the Hugging Face hub: what Stage I starts from, and Stage II's
    frozen text encoder. Unset, Stage I learns a vocabulary of characters and a language model from nothing, and
    Stage II's text encoder is the mT5 it starts from.
    """
    experts: tuple[Path, ...] = ()
    """Stages II and III: the checkpoints whose frozen backbones are the experts (Sec. 3.3)."""
    start_from: Path | None = None
    """Stages II and III: the checkpoint whose mT5 (and fusion, if it has one) the stage starts from. Unset, by the
    rule of Sec. 3.7.
    """
    allow_leak: bool = False
    """Take experts that were trained on the very corpus of this run; the paper's were not."""
    allow_mix: tuple[Literal["pose_estimator", "frame_rate", "language"], ...] = _later(())
    """
    In which of these respects data, experts and configuration may differ from one another; otherwise it is refused.
    """
    train_experts: bool = False
    """Stage III without fusion: the backbone learns too (Table 6)."""
    tokenize: str | None = None
    """sacrebleu's, for validation. Unset, by the text's language."""
    seed: int = 0
    """Of all that is random: weights, order, noise, dropout."""


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file; relative paths in it are relative to the working directory.

    Args:
        changes: settings that are to be others than in the file, each ``section.key=value`` with a value as in TOML,
            or as it stands where it is none: ``optimisation.epochs=3``, ``mt5=google/mt5-base``.

    Raises:
        ConfigError: no such file, not TOML, or a setting that is unknown or of the wrong kind.
    """
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    for change in changes:
        _set(settings, change)
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {_explained(e)}" for e in error.errors())
        raise ConfigError(f"{path}: {faults}") from None


def _set(settings: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise ConfigError(f"--set {change}: is not section.key=value, as optimisation.epochs=3")
    for section in sections:
        settings = settings.setdefault(section, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"--set {change}: {section} is a setting and no section")
    try:
        settings[name] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:  # a word or a path that nobody put between quotes
        settings[name] = value.strip()


def _explained(fault: Any) -> str:
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"])
    return f"there is no such setting{nearest('.'.join(map(str, fault['loc'])))}"


def nearest(key: str) -> str:
    """Return a question for whoever misspelled a key: the settings that it may be, dotted; empty where none is near."""
    known = [name for name, _ in all_settings()]
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    close = difflib.get_close_matches(key, known, n=2, cutoff=0.75)
    close += [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], last, n=2, cutoff=0.75)]
    return f"; did you mean {' or '.join(dict.fromkeys(close[:2]))}?" if close else ""


def all_settings(model: type[BaseModel] = TrainConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting by its dotted key, sections before what is in them."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from all_settings(kind, f"{prefix}{name}.")
