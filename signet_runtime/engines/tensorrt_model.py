"""The model on TensorRT: encoder and both decoders, and generation that Optimum and transformers drive.

Tensors stay on the GPU from the encoder's output to the last token; only tokens and routing weights are read back.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from signet_runtime.bundle import Bundle, Engine, ShapeRange
from signet_runtime.engines.encoder import INPUTS, OUTPUTS, pad
from signet_runtime.engines.load import LoadedEngine
from signet_runtime.engines.parity import check_once
from signet_runtime.engines.tensorrt import TensorRTEngine, device, on_stream
from signet_runtime.errors import BundleError, EngineError, InputError
from signet_runtime.generation import DecoderBackend
from signet_runtime.generation.optimum import OptimumDecoder
from signet_runtime.regions import Regions
from signet_runtime.remembered import is_trusted

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class DeviceEncoded(NamedTuple):
    """`Encoded`, on the GPU. P is the length of the prompt, T the longest clip's.

    hidden_states: (B, P+T, E); attention_mask: int64 (B, P+T); routing_weights: float32 (B, N). They are computed on
    `on_stream`'s stream: read them there, or after `text_model`'s generate, which waits for it.
    """

    hidden_states: Tensor
    attention_mask: Tensor
    routing_weights: Tensor


class TensorRTEncoder:
    """The encoder engine; what it returns is on the GPU, for `text_model` to decode.

    Attributes:
        max_clips: most that one call takes.

    Raises:
        BundleError: the engine does not have the inputs and outputs of an encoder.
    """

    can_stream = False

    def __init__(self, engine: TensorRTEngine, shapes: ShapeRange) -> None:
        _check_names(engine, INPUTS, OUTPUTS)
        self._engine, self._shapes = engine, shapes
        self.max_clips = shapes.clips

    def __call__(self, clips: Sequence[Regions]) -> DeviceEncoded:
        """Encode clips of possibly different lengths in one batch.

        Args:
            clips: for each clip its regions, float32 (T_i, J, 3).

        Raises:
            InputError: a clip is shorter or longer than the engine was built for, or there are too many.
        """
        import torch

        lengths = [len(clip["body"]) for clip in clips]
        fewest, _, most = self._shapes.frames
        if len(clips) > self.max_clips:
            raise InputError(f"{len(clips)} clips at once: the TensorRT engine takes {self.max_clips}")
        for length in lengths:
            if not fewest <= length <= most:
                raise InputError(
                    f"a clip of {length} frames: the TensorRT engine takes {fewest} to {most}; cut the clip, export "
                    "the bundle with wider shapes, or use the onnx engine"
                )
        with on_stream():
            found = self._engine({name: torch.from_numpy(value).to(device()) for name, value in pad(clips).items()})
        return DeviceEncoded(*(found[name] for name in OUTPUTS))


class _Decoder:
    """A decoder engine with the interface of Optimum's decoders over ONNX Runtime."""

    can_use_cache = True

    def __init__(self, engine: TensorRTEngine, layers: int, *, with_past: bool) -> None:
        kinds = [f"{side}.{part}" for side in ("decoder", "encoder") for part in ("key", "value")]
        self._past = [[f"past_key_values.{i}.{kind}" for kind in kinds] for i in range(layers)] if with_past else []
        # Later steps give back no keys and values of the encoder: those of the first step stay what they are.
        self._present = [[f"present.{i}.{kind}" for kind in kinds[: 2 if with_past else 4]] for i in range(layers)]
        states = [] if with_past else ["encoder_hidden_states"]
        _check_names(
            engine,
            ["encoder_attention_mask", "input_ids", *states, *itertools.chain(*self._past)],
            ["logits", *itertools.chain(*self._present)],
        )
        self._engine = engine

    def forward(
        self,
        input_ids: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        past_key_values: tuple[tuple[Tensor, ...], ...] | None = None,
        **unused: object,
    ) -> Any:
        """Decode one step; the past is self-attention's key and value and the encoder's, every layer's, on the GPU."""
        from transformers.modeling_outputs import Seq2SeqLMOutput

        past = past_key_values or ()
        given = {"input_ids": input_ids, "encoder_attention_mask": encoder_attention_mask}
        if not self._past:
            given["encoder_hidden_states"] = encoder_hidden_states
        for names, layer in zip(self._past, past, strict=bool(self._past)):
            given.update(zip(names, layer, strict=True))
        found = self._engine(given)
        present = tuple(tuple(found[name] for name in names) for names in self._present)
        if self._past:
            present = tuple(new + layer[2:] for new, layer in zip(present, past, strict=True))
        # Optimum's generation keeps the past as tuples, which transformers' annotations no longer foresee.
        return Seq2SeqLMOutput(logits=found["logits"], past_key_values=present)  # type: ignore[arg-type]

    __call__ = forward


def text_model(decoder: TensorRTEngine, decoder_with_past: TensorRTEngine, config: Any, search: Any) -> Any:
    """Return what `OptimumDecoder` drives: Optimum's sequence-to-sequence model, its two decoders being engines.

    Args:
        config: the language model's `PretrainedConfig`.
        search: the `GenerationConfig`.

    Raises:
        BundleError: the engines do not have the inputs and outputs of this model's decoders.
    """
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    class TensorRTForSeq2SeqLM(ORTModelForSeq2SeqLM):
        # Optimum's constructor wants ONNX Runtime sessions. Of what it sets, generation uses the attributes below, and
        # no encoder, whose states are always given.
        def __init__(self) -> None:
            self.config, self.generation_config = config, search
            self.decoder = _Decoder(decoder, config.num_decoder_layers, with_past=False)
            self.decoder_with_past = _Decoder(decoder_with_past, config.num_decoder_layers, with_past=True)

        @property
        def device(self) -> torch.device:
            return device()

        @property
        def dtype(self) -> torch.dtype:
            return decoder.outputs["logits"].dtype

        def generate(self, *args: Any, **kwargs: Any) -> Any:
            with on_stream() as stream:
                tokens = super().generate(*args, **kwargs)
                if stream is not None:
                    stream.synchronize()  # who reads the tokens is on another stream
            return tokens

    return TensorRTForSeq2SeqLM()


class TensorRTModel(NamedTuple):
    """The three engines of a bundle, checked; ``close`` them when done."""

    encoder: TensorRTEncoder
    decoder: TensorRTEngine
    decoder_with_past: TensorRTEngine
    all: tuple[TensorRTEngine, ...]

    def close(self) -> None:
        """Keep for the next start what the library compiled."""
        for engine in self.all:
            engine.close()


def load(bundle: Bundle, engine: Engine, device: str, generation: DecoderBackend | None) -> LoadedEngine:
    """Load a bundle's TensorRT engines for `load_engine`; they run on the GPU, whatever ``device`` says.

    Raises:
        EngineError: they cannot run here, do not compute what the ONNX graphs compute, or ``generation`` is "fast".
        BundleError: they are not a bundle's engines.
    """
    if generation == "fast":
        raise EngineError("fast generation runs on ONNX Runtime; TensorRT engines take --generation optimum")
    engines = load_model(bundle, engine)
    decoder = OptimumDecoder(
        bundle, lambda config, search: text_model(engines.decoder, engines.decoder_with_past, config, search)
    )
    return LoadedEngine(engines.encoder, decoder, engines.close)


def load_model(bundle: Bundle, engine: Engine) -> TensorRTModel:
    """Load a bundle's TensorRT engines; compare them with its ONNX graphs unless this user did so on this machine.

    Raises:
        EngineError: they are not trusted, cannot run here, or do not compute what the ONNX graphs compute.
        BundleError: they are not a bundle's engines.
    """
    if engine.build is None:
        raise BundleError(f"{bundle.path}: its {engine.kind} engine is not a TensorRT engine")
    files = [bundle.file(name) for name in (engine.encoder, engine.decoder, engine.decoder_with_past)]
    if not all(is_trusted(bundle.manifest.files[name].sha256) for name in engine.files):
        raise EngineError(
            f"{bundle.path}: its TensorRT engines are code, and were not built by you on this machine: if you trust "
            "who built them, --trust-engines runs them, and remembers it; signet-export --engine trt builds them here"
        )
    parts = tuple(TensorRTEngine(file, engine.kind, engine.build) for file in files)
    loaded = TensorRTModel(TensorRTEncoder(parts[0], engine.build.shapes), parts[1], parts[2], parts)
    check_once(bundle, engine, loaded.encoder, loaded.decoder, loaded.decoder_with_past)
    return loaded


def _check_names(engine: TensorRTEngine, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    for kind, expected, found in (("inputs", inputs, engine.inputs), ("outputs", outputs, engine.outputs)):
        if set(expected) != set(found):
            wrong = ", ".join(sorted(set(expected) ^ set(found))[:4])
            raise BundleError(f"{engine.path}: not this model's engine, its {kind} differ in {wrong}; export again")
