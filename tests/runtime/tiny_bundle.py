"""A bundle as small as a bundle can be, and keypoints to give it: every contract is kept, nothing is learned."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signet_export.attention import expose_attention
from signet_runtime.bundle import Engine, Expert, Generation, Manifest, Routing, new_bundle, write_manifest
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.skeleton import REGIONS

D_MODEL = 32
PROMPT = 2  # positions that the graph puts before the frames
ROUTING = [0.75, 0.25, 0.0]
WORDS = "hand name water school morning friend house where when dog cat bread sign paper summer winter"
NOTICE = "this is a test and translates nothing"


@dataclass(frozen=True)
class TinyBundle:
    """The bundle, and the PyTorch language model that its decoders were exported from."""

    path: Path
    language_model: Path


def make_tiny_bundle(directory: Path) -> TinyBundle:
    """Make the language model, export its decoders, and write the bundle, all below ``directory``."""
    language_model, exported = directory / "mt5", directory / "onnx"
    _make_language_model(language_model)
    _export_decoders(language_model, exported)
    manifest = Manifest(
        name="tiny",
        language="mul",
        notice=NOTICE,
        experts=[Expert(name=name, sign_languages=[name], corpus="none") for name in ("ase", "gsg", "csl")],
        routing=Routing(k=2),
        normalisation="unisign",
        pose_estimator="mediapipe",
        frame_rate=25.0,
        max_frames=64,
        generation=Generation(num_beams=4, max_new_tokens=12),
        engines=[
            Engine(
                kind="onnx",
                precision="fp32",
                encoder="encoder.onnx",
                decoder="decoder_model.onnx",
                decoder_with_past="decoder_with_past_model.onnx",
            )
        ],
    )
    with new_bundle(directory / "bundle") as draft:
        for file in (*exported.glob("decoder*"), *exported.glob("*config.json"), *language_model.glob("*tok*")):
            shutil.copy(file, draft)
        shutil.copy(language_model / "spiece.model", draft)
        _make_encoder(draft / "encoder.onnx")
        for name in ("decoder_model.onnx", "decoder_with_past_model.onnx"):
            expose_attention(draft / name)
        write_manifest(draft, manifest)
    return TinyBundle(directory / "bundle", language_model)


def random_poses(seed: int, frames: int = 30, fps: float = 25.0) -> PoseSequence:
    """Somebody whose every joint is in view."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0.2, 0.8, (1, 133, 2)) + rng.normal(0, 0.05, (frames, 133, 2)).cumsum(axis=0) * 0.1
    return PoseSequence(keypoints, rng.uniform(0.4, 1.0, (frames, 133)), fps, (640, 480), "mediapipe")


def nobody(frames: int = 5) -> PoseSequence:
    """Frames without a person."""
    return PoseSequence(np.zeros((frames, 133, 2)), np.zeros((frames, 133)), 25.0, (640, 480), "mediapipe")


class FakeEstimator:
    """Finds one given motion in whatever it is shown."""

    name = "mediapipe"

    def __init__(self) -> None:
        self.motion = random_poses(4, frames=500)
        self.closed = False

    def estimate(self, frames: Iterable[np.ndarray], *, live: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One pose for every frame."""
        motion = itertools.cycle(zip(self.motion.keypoints, self.motion.scores, strict=True))
        for _, pose in zip(frames, motion, strict=False):
            yield pose

    def close(self) -> None:
        """Remember that it was."""
        self.closed = True


def _make_language_model(directory: Path) -> None:
    import sentencepiece
    import torch
    from transformers import MT5Config, MT5ForConditionalGeneration, T5Tokenizer

    directory.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS.split() * 4),
        model_prefix=str(directory / "spiece"),
        vocab_size=48,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    tokenizer = T5Tokenizer(str(directory / "spiece.model"), extra_ids=0, legacy=True)
    torch.manual_seed(2)
    config = MT5Config(
        vocab_size=len(tokenizer),
        d_model=D_MODEL,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = MT5ForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # as it is made it repeats one token whatever it is given
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _export_decoders(language_model: Path, directory: Path) -> None:
    from optimum.exporters.onnx import main_export

    main_export(
        str(language_model), directory, task="text2text-generation-with-past", no_post_process=True, do_validation=False
    )


def _make_encoder(path: Path) -> None:
    """Regions, flattened and multiplied by one matrix, after two constant positions for the prompt."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    width = sum(len(region.joints) for region in REGIONS.values()) * 3
    constants = {
        "flat": np.array([0, 0, -1], np.int64),
        "matrix": rng.normal(0, 0.3, (width, D_MODEL)).astype(np.float32),
        "prompt": rng.normal(0, 1, (1, PROMPT, D_MODEL)).astype(np.float32),
        "prompt_mask": np.ones((1, PROMPT), np.int64),
        "routing": np.array([ROUTING], np.float32),
        "one": np.array([1], np.int64),
        "prompt_rest": np.array([PROMPT, D_MODEL], np.int64),
        "prompt_length": np.array([PROMPT], np.int64),
        "experts": np.array([len(ROUTING)], np.int64),
    }
    nodes = [helper.make_node("Reshape", [name, "flat"], [f"{name}_flat"]) for name in REGIONS]
    nodes += [
        helper.make_node("Concat", [f"{name}_flat" for name in REGIONS], ["frames"], axis=-1),
        helper.make_node("MatMul", ["frames", "matrix"], ["visual"]),
        helper.make_node("Shape", ["attention_mask"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "prompt_rest"], ["prompt_shape"], axis=0),
        helper.make_node("Expand", ["prompt", "prompt_shape"], ["prompts"]),
        helper.make_node("Concat", ["prompts", "visual"], ["encoder_hidden_states"], axis=1),
        helper.make_node("Concat", ["batch", "prompt_length"], ["prompt_mask_shape"], axis=0),
        helper.make_node("Expand", ["prompt_mask", "prompt_mask_shape"], ["prompt_masks"]),
        helper.make_node("Concat", ["prompt_masks", "attention_mask"], ["encoder_attention_mask"], axis=1),
        helper.make_node("Concat", ["batch", "experts"], ["routing_shape"], axis=0),
        helper.make_node("Expand", ["routing", "routing_shape"], ["routing_weights"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", "T", len(region.joints), 3])
        for name, region in REGIONS.items()
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [*inputs, helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["B", "T"])],
        [
            helper.make_tensor_value_info("encoder_hidden_states", TensorProto.FLOAT, ["B", "S", D_MODEL]),
            helper.make_tensor_value_info("encoder_attention_mask", TensorProto.INT64, ["B", "S"]),
            helper.make_tensor_value_info("routing_weights", TensorProto.FLOAT, ["B", len(ROUTING)]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
