"""What can run a model here: PyTorch, torch.compile, ONNX Runtime and TensorRT, and two models to run.

The embedded demo, on a real clip, and one of paper size with random weights and motion, which cost what real ones do.
Its vocabulary is of 10,000 pieces, as `signet-export --vocabulary` leaves of mT5's 250,112.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.export import random_checkpoint
from benchmarks.pose_store import motion
from signet_export.bundle import export_bundle
from signet_export.encoder import export_encoder
from signet_export.fuse import FusedEncoder
from signet_export.tensorrt import choose_target
from signet_runtime.bundle import Bundle
from signet_runtime.engines.load import load_engine
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.engines.session import PROVIDERS, create_session, provider_problem
from signet_runtime.engines.tensorrt import library_name, load_library
from signet_runtime.errors import EngineError
from signet_runtime.generation import DECODER_BACKENDS, load_text_decoder
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import Regions, prepare
from signet_train.checkpoint import Checkpoint, demo_checkpoint_path, load_checkpoint
from signet_train.config import ModelCard
from signet_train.model.signet import Signet, build_language_model
from signet_train.tokenizer import train_tokenizer

VOCABULARY = 10_000
TOKENS = 32
FRAMES = 128
TOP_K = (1, 2, 3)
K = 2  # of the published model, and of every row that does not vary it

Tell = Callable[[str], None]
Generate = Callable[[int, int], list[list[int]]]


@dataclass(frozen=True)
class Subject:
    """A model, as it was trained and as it is exported, and the clip it reads."""

    name: str
    checkpoint: Checkpoint
    bundle: Bundle
    clip: PoseSequence

    def regions(self) -> Regions:
        """Return what the model reads of the clip."""
        return prepare(self.clip, self.bundle.manifest)


def demo(clip: PoseSequence) -> Subject:
    """Load the model that comes with the package."""
    return Subject("demo", load_checkpoint(demo_checkpoint_path()), Bundle.load(None), clip)


def paper_size(directory: Path, small: bool, device: torch.device, tell: Tell) -> Subject:
    """Export a random one into ``directory``, on a GPU also as TensorRT engines; ``small``: smaller than the demo."""
    made = random_checkpoint(small)
    vocabulary = 256 if small else VOCABULARY
    language_model = made.config.model.language_model.model_copy(update={"vocab_size": vocabulary})
    model_config = made.config.model.model_copy(update={"language_model": language_model})
    card = ModelCard(name="random", language="en", max_new_tokens=TOKENS)
    config = made.config.model_copy(update={"model": model_config, "card": card})
    model = Signet(config.model, len(made.experts), build_language_model(language_model)).eval()
    model.experts.load_state_dict(made.model.experts.state_dict())
    assert model.routed is not None and made.model.routed is not None
    model.routed.load_state_dict(made.model.routed.state_dict())
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + vocabulary - 8)))  # as many pieces as the model has rows
    checkpoint = Checkpoint(model, made.experts, train_tokenizer([letters], vocabulary), config)
    target = None
    if device.type == "cuda":
        try:
            target = choose_target("this-gpu", tell)
        except EngineError as error:
            tell(str(error))
    export_bundle(checkpoint, directory / "bundle", target=target, report=tell)
    clip = motion(np.random.default_rng(0)).take(np.arange(FRAMES))
    name = "small" if small else f"paper size, vocabulary of {vocabulary:,}"
    return Subject(name, checkpoint, Bundle.load(directory / "bundle"), clip)


class Engine(NamedTuple):
    """One way of running a subject.

    Attributes:
        encode: encodes its clip, by k; `K` alone where k does not change what is computed.
        generate: by who searches: the width of the search and the most tokens it may write -> tokens.
        encoder_bytes, decoder_bytes: of the weights.
    """

    name: str
    encode: dict[int, Callable[[], Any]]
    generate: dict[str, Generate]
    encoder_bytes: int
    decoder_bytes: int


@contextmanager
def loaded_engines(subject: Subject, device: torch.device, compiled: bool) -> Iterator[list[Engine]]:
    """Load all that can run the subject here.

    Args:
        compiled: with torch.compile, which compiles when it first runs, for a minute.
    """
    regions = subject.regions()
    with tempfile.TemporaryDirectory() as directory:
        graphs = {K: subject.bundle.file(subject.bundle.engine("onnx").encoder)}
        model = subject.checkpoint.model.eval()
        assert model.routed is not None and model.routed.router.top_k == subject.bundle.manifest.routing.k == K
        for k in (k for k in TOP_K if k != K):
            graphs[k] = Path(directory, f"encoder-{k}.onnx")
            model.routed.router.top_k = k
            export_encoder(FusedEncoder(model, "topk"), graphs[k])
        model.routed.router.top_k = K
        found = _torch_engines(model, regions, device, compiled)
        for where in dict.fromkeys(("cpu", device.type)):
            if provider_problem(PROVIDERS[where]) is None:
                found.append(_onnx_engine(subject, graphs, regions, where))
        if len(subject.bundle.manifest.engines) > 1 and device.type == "cuda":
            found.append(_tensorrt_engine(subject, regions))
        yield found


def _torch_engines(model: Signet, regions: Regions, device: torch.device, compiled: bool) -> list[Engine]:
    model.to(device)
    inputs = {name: torch.from_numpy(region)[None].to(device) for name, region in regions.items()}
    mask = torch.ones(1, len(regions["body"]), dtype=torch.bool, device=device)

    def encode() -> Any:
        with torch.inference_mode():
            return model(inputs, mask)

    encoded = encode()

    def generate(beams: int, tokens: int) -> list[list[int]]:
        with torch.inference_mode():
            written: Any = model.language_model.generate(
                encoder_outputs=BaseModelOutput(encoded.hidden_states),
                attention_mask=encoded.mask.long(),
                num_beams=beams,
                max_new_tokens=tokens,
                do_sample=False,
            )
        return [[token for token in row if token > 1] for row in written.tolist()]  # no padding, no end

    encoder = [model.experts, model.routed, model.language_model.get_encoder().block]
    encoder_bytes = sum(_bytes(module) for module in encoder)
    decoder_bytes = _bytes(model) - encoder_bytes
    found = [Engine("PyTorch, eager", {K: encode}, {"transformers": generate}, encoder_bytes, decoder_bytes)]
    if compiled:
        run = torch.compile(FusedEncoder(model, "dense", stacked=device.type == "cuda").eval())

        def encode_compiled() -> Any:
            with torch.inference_mode():
                return run(*inputs.values(), mask.long())

        found.append(Engine("PyTorch, fused, torch.compile", {K: encode_compiled}, {}, encoder_bytes, 0))
    return found


def _bytes(module: torch.nn.Module | None) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters()) if module is not None else 0


def _onnx_engine(subject: Subject, graphs: dict[int, Path], regions: Regions, where: str) -> Engine:
    """Load ONNX Runtime on one device: an encoder for every k, and the decoders driven by every `DecoderBackend`."""
    encoders = {k: OnnxEncoder(create_session(path, where)) for k, path in graphs.items()}
    encode: dict[int, Callable[[], Any]] = {k: partial(encoder, [regions]) for k, encoder in encoders.items()}
    encoded = encode[K]()
    engine = subject.bundle.engine("onnx")
    generate: dict[str, Generate] = {}
    for way in DECODER_BACKENDS:
        decoder = load_text_decoder(subject.bundle, engine, where, encoders[K].session, way)
        generate[way] = partial(decoder.generate, encoded)
    decoder_bytes = sum(
        file.stat().st_size
        for file in subject.bundle.path.iterdir()
        if ".onnx" in file.suffix and file.name != engine.encoder
    )
    return Engine(f"ONNX Runtime, {where.upper()}", encode, generate, graphs[K].stat().st_size, decoder_bytes)


def _tensorrt_engine(subject: Subject, regions: Regions) -> Engine:
    """Load the one that the bundle has, which compares it with the ONNX graphs."""
    loaded = load_engine(subject.bundle, "trt", "cuda")
    encode = partial(loaded.encoder, [regions])
    engine = subject.bundle.engine("trt")
    files = (engine.encoder, engine.decoder, engine.decoder_with_past)
    sizes = [subject.bundle.file(name).stat().st_size for name in files]
    generate: dict[str, Generate] = {"optimum": partial(loaded.decoder.generate, encode())}
    return Engine(library_name(engine.kind), {K: encode}, generate, sizes[0], sizes[1] + sizes[2])


def absent(device: torch.device) -> dict[str, str]:
    """Name the engines that cannot run here, and why."""
    reasons = {}
    problem = provider_problem(PROVIDERS["cuda"])
    if device.type == "cpu" and problem is None:
        problem = "run with --device cuda"
    if problem:
        reasons["ONNX Runtime, CUDA"] = problem
    for kind in ("tensorrt", "tensorrt-rtx"):
        try:
            load_library(kind)
        except EngineError as error:
            reasons[library_name(kind)] = str(error)
        else:
            if device.type == "cpu":
                reasons[library_name(kind)] = "it runs on a GPU alone"
    return reasons
