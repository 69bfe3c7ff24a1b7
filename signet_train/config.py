"""What a run is made of: the model's size, the data, the schedule. Read from TOML, checked by pydantic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from signet_runtime.regions import LONG_CLIPS, NORMALISATIONS
from signet_train.evaluation.tokenizers import TOKENIZERS
from signet_train.ranges import Place, Real, Text, Whole
from signet_train.settings import changed, nearest_of, read_settings, settings_of, validated


def _later(default: Any) -> Any:
    """Return a setting that came later than others: checkpoints that have its default load in a package without it."""
    return Field(default=default, exclude_if=lambda chosen: chosen == default)


class _Strict(BaseModel):
    # What stands below a field is its description, which `signet-train config --explain` prints.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Width = Annotated[int, Whole(1, 16_384, "the widest mT5 has 4,096")]
Layers = Annotated[int, Whole(1, 256, "the deepest mT5 has 24")]
Channels = Annotated[tuple[Width, ...], Field(min_length=1, max_length=32)]
Share = Annotated[float, Real(0, 1, "a share, and something has to be left", below=True)]
Rate = Annotated[float, Real(0, 10, "a learning rate; AdamW diverges long before 10")]
Temperature = Annotated[float, Real(1e-3, 1000, "what is divided by less overflows")]
Name = Annotated[str, Text(200, "it is a name")]
Tag = Annotated[str, Text(40, "it is a code")]
Seed = Annotated[int, Whole(0, 2**63 - 1, "what random generators take, and TOML has")]
File = Annotated[Path, Place()]


class BackboneConfig(_Strict):
    """One expert's ST-GCN streams (Tables 11 and 12). The defaults are the paper's size."""

    input_channels: Width = 64
    """Channels that a joint's x, y and confidence are lifted to (Table 11)."""
    spatial_channels: Channels = (64, 128, 256)
    """Channels of the spatial blocks, one number a block (Table 11)."""
    temporal_channels: Channels = (256, 256, 256)
    """Channels of the temporal blocks, one number a block (Table 11)."""
    temporal_kernel: Annotated[int, Whole(1, 99, "an even one has no middle frame", odd=True)] = 5
    """Frames that a temporal convolution looks at (Table 11)."""
    embedding: Width = 768
    """Width of what an expert makes of a frame; mT5's `d_model` (Table 12)."""
    dropout: Share = 0.0
    """In the temporal blocks. The paper states none."""
    body_injection: bool = True
    """Adds the body's wrist and nose features to hands and face between the two stages. The paper's text has four
    parallel streams; the published encoder that its Tables 11 and 12 describe has this link.
    """


class FusionConfig(_Strict):
    """Adapters, hand-prior aggregation and router (Sec. 3.4-3.6, Appendix B)."""

    adapter_rank: Annotated[int, Whole(0, 16_384, "0 is none; the paper has 16")] = 16
    """Rank of the low-rank adapters (Sec. 3.4, Appendix B); 0: no adapters (Table 8)."""
    adapter_dropout: Share = 0.1
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
    query_hidden: Width = 512
    """Width of the MLP that makes the aggregation's query (Algorithm 1)."""
    attention_dropout: Share = _later(0.0)
    """Of the weights of Algorithm 1, in training; 0.1 in the authors' code."""
    router_hidden: Width = 1728
    """Width of the router's MLP (Eq. 5). The paper does not state it; 1728 brings the trainable part to its 1.5M
    (Table 5). The authors' is 128.
    """
    gumbel_temperature: Temperature = 1.0
    """Of the Gumbel-Softmax that mixes experts in training (Eq. 6, Appendix B)."""
    top_k: Annotated[int, Whole(1, 256, "an expert at least, and no more than there are")] = 2
    """Experts that a clip is sent to when a model is used (Eq. 8, Table 8). Training serves every k."""


class LanguageModelConfig(_Strict):
    """The mT5 that writes the sentence. The defaults are mT5-base's."""

    vocab_size: Annotated[int, Whole(5, 4_000_000, "pad, end, unknown, a space and a letter; mT5 has 250,112")] = (
        250_112
    )
    """Pieces of the vocabulary. A Stage I without `mt5` that leaves mT5-base's gets what its characters need."""
    d_model: Width = 768
    """Width of mT5."""
    d_kv: Width = 64
    """Width of an attention head."""
    d_ff: Annotated[int, Whole(1, 65_536, "the widest mT5 has 10,240")] = 2048
    """Width of the feed-forward layers."""
    num_layers: Layers = 12
    """Layers of the encoder, and of the decoder."""
    num_heads: Annotated[int, Whole(1, 256, "the widest mT5 has 64")] = 12
    """Attention heads."""
    dropout: Share = 0.1
    """In all its layers, in training."""
    absolute_positions: bool = False
    """mT5 tells order by relative biases that it learned on text, so the published weights want false. One that starts
    from nothing takes far longer to read letters in their order unless positions are added to its input.
    """
    prompt: Annotated[str, Text(1000, "mT5 reads it before every clip", lines=True)] | None = None
    """Text that mT5 reads before the signs. The paper has none; models that were published with one need it."""

    @model_validator(mode="after")
    def _has_pairs(self) -> LanguageModelConfig:
        if self.absolute_positions and self.d_model % 2:
            raise ValueError(
                f"d_model is {self.d_model}: absolute_positions are a sine and a cosine each, so it is even"
            )
        return self


class ModelConfig(_Strict):
    """A whole SIGNET: N experts of one size, how they are fused (None: a single expert, Stage I), and the mT5."""

    backbone: BackboneConfig = BackboneConfig()
    """An expert's size."""
    fusion: FusionConfig | None = None
    """How experts are fused; left out in Stage I, which has a single one."""
    language_model: LanguageModelConfig = LanguageModelConfig()
    """mT5's size."""

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.backbone.embedding != self.language_model.d_model:
            raise ValueError(
                f"backbone.embedding is {self.backbone.embedding} and language_model.d_model is "
                f"{self.language_model.d_model}: mT5 reads what the experts make, so they are equal"
            )
        return self


class DataConfig(_Strict):
    """Which samples, and what is done to them."""

    manifests: tuple[File, ...]
    """The tables of the samples: one corpus out of several, if need be."""
    train: Name = "train"
    """Name of the split that is trained on."""
    validation: Name = "dev"
    """Name of the split that decides which checkpoint is best."""
    sign_languages: tuple[Tag, ...] = ()
    """Rows of these alone (ISO 639-3); empty: all."""
    frame_rate: Annotated[float, Real(0.01, 1000, "frames a second; high-speed cameras have 1,000")] | None = None
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
    max_frames: Annotated[int, Whole(1, 16_384, "attention costs their square; the paper's baselines have 256")] = 256
    """Frames of a clip that the model sees at most. The paper leaves it open; 256 is its baselines'."""
    long_clips: Literal[LONG_CLIPS] = _later("sampled")  # type: ignore[valid-type]
    """Of a longer clip: by `sampled` a random sorted subset in training and an even one otherwise, by `first` its
    beginning, as the authors' readers of How2Sign and MeineDGS have it.
    """
    max_target_tokens: Annotated[int, Whole(2, 2000, "a piece and the end; a sentence has some 50")] = 50
    """Pieces of a sentence that are learned at most. The paper leaves it open."""
    noise: Annotated[float, Real(0, 10, "a body is about 2 units wide")] = 0.01
    """Sigma on x and y of confident joints, in normalised units (Appendix B)."""
    frame_drop: Share = 0.15
    """Share of the frames that are lost, at random, in training (Appendix B)."""
    vary_signer: bool = False
    """Other cameras, other hands, lost hands: for corpora of a single signer, which the paper has not."""
    cache: File | None = None
    """Stages II and III: where the features are that `signet-train cache` computes."""
    workers: Annotated[int, Whole(0, 1024, "processes; 0 loads in this one")] = 4
    """Processes that load samples; no more than there are CPUs."""


class OptimisationConfig(_Strict):
    """Optimiser and schedule (Table 14)."""

    epochs: Annotated[int, Whole(1, 100_000, "without one nothing is learned")] = 20
    """How often the training split is gone through. May be raised when a run is resumed (Table 14)."""
    warmup_epochs: Annotated[float, Real(0, 100_000, "a part of the epochs")] = 0
    """Over so many the learning rate rises from 0 (Table 14)."""
    batch_size: Annotated[int, Whole(1, 65_536, "samples that are in memory together")] = 8
    """Samples a process and forward pass (Table 14)."""
    accumulation: Annotated[int, Whole(1, 65_536, "forward passes of one step")] = 4
    """Forward passes a step (Table 14)."""
    lr: Rate = 3e-4
    """Highest learning rate (Table 14)."""
    min_lr: Rate = 1e-7
    """Learning rate at the end of the cosine (Table 14)."""
    router_lr: Rate = 8e-4
    """Highest learning rate of the router (Table 14)."""
    weight_decay: Annotated[float, Real(0, 1, "a share of the weights, times the learning rate")] = 1e-4
    """AdamW's (Table 14)."""
    label_smoothing: Share = 0.2
    """Of the loss of Stages I and III (Eq. 3, Eq. 10, Table 14)."""
    clip_norm: Annotated[float, Real(0, 1e9, "gradients of norm 0 teach nothing", above=True)] = 1.0
    """Gradients are clipped to this norm. The paper leaves it open."""
    precision: Literal["no", "bf16"] = "no"
    """`bf16` on a GPU that has it fast, as the paper's (Table 14); `no` is fp32."""
    gradient_checkpointing: bool = _later(False)
    """mT5's layers are computed again for their gradients: the same step, slower, in far less memory."""
    temperature: Temperature = 0.07
    """Stage II: where Eq. 9's learned temperature starts."""
    learn_temperature: bool = _later(True)
    """Whether Eq. 9's temperature is learned; in the authors' code it stays where it starts."""
    save_every: Annotated[int, Whole(1, 1_000_000_000, "steps")] = 1000
    """Steps between two checkpoints, beside the one after every validation."""
    validate_every: Annotated[int, Whole(1, 100_000, "epochs")] = _later(1)
    """Epochs between two validations: more of them where an epoch is a few steps."""

    @model_validator(mode="after")
    def _falls(self) -> OptimisationConfig:
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr is {self.min_lr:g} and lr is {self.lr:g}: the learning rate falls from lr to min_lr"
            )
        return self


class ModelCard(_Strict):
    """What the exported bundle says of itself."""

    name: Name = "signet"
    """The bundle's name."""
    language: Tag | None = None
    """Of the text, BCP 47; `mul` for several. Unset, what the data say."""
    notice: Annotated[str, Text(10_000, "people read it whenever they use the bundle", lines=True)] | None = None
    """Shown to whoever uses the bundle."""
    pose_estimator: Name | None = None
    """Whose keypoints the training data are; `signet-translate` reads videos through it. Unset, what the data say."""
    num_beams: Annotated[int, Whole(1, 100, "each is a copy of the decoder's state; the paper has 4")] = 4
    """Width of the beam search (Table 14)."""
    max_new_tokens: Annotated[int, Whole(1, 2000, "a sentence has some 50")] = 100
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
    mt5: Annotated[str, Text(4096, "a path, or a name on the hub")] | None = None
    """A pretrained mT5, as a directory or a name on the Hugging Face hub: what Stage I starts from, and Stage II's
    frozen text encoder. Unset, Stage I learns a vocabulary of characters and a language model from nothing, and
    Stage II's text encoder is the mT5 it starts from.
    """
    experts: tuple[File, ...] = ()
    """Stages II and III: the checkpoints whose frozen backbones are the experts (Sec. 3.3)."""
    start_from: File | None = None
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
    tokenize: Literal[TOKENIZERS] | None = None  # type: ignore[valid-type]
    """sacrebleu's, for validation. Unset, by the text's language."""
    seed: Seed = 0
    """Of all that is random: weights, order, noise, dropout."""

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        fusion, experts = self.model.fusion, len(self.experts)
        if self.stage == "pretrain" and fusion is not None:
            raise ValueError("model.fusion: Stage I trains a single expert; leave the fusion section out")
        if fusion is not None and experts and fusion.top_k > experts:
            raise ValueError(
                f"model.fusion.top_k is {fusion.top_k}: a clip is sent to no more experts than there are, {experts}"
            )
        return self


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file; relative paths in it are relative to the working directory.

    Args:
        changes: settings that are to be others than in the file, each ``section.key=value`` with a value as in TOML,
            or as it stands where it is none: ``optimisation.epochs=3``, ``mt5=google/mt5-base``.

    Raises:
        ConfigError: no such file, not TOML, or settings that are unknown, wrong, or do not fit one another.
    """
    settings = read_settings(Path(path))
    for change in changes:
        settings = changed(settings, change)
    return validated(TrainConfig, settings, path)


def nearest(key: str) -> str:
    """Return a question for whoever misspelled a key of a run: see `nearest_of`."""
    return nearest_of(TrainConfig, key)


def all_settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting of a run by its dotted key, sections before what is in them."""
    return settings_of(TrainConfig)
