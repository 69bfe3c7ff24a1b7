"""The exported engines say what PyTorch says, alone or in a padded batch, without asking anyone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import PROMPT, ROUTING, TinyBundle, random_poses

from signet_runtime.bundle import Bundle
from signet_runtime.engines import session as session_module
from signet_runtime.engines.encoder import Encoded, HostEncoded
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.engines.session import create_session, provider_problem
from signet_runtime.errors import BundleError, EngineError
from signet_runtime.generation import DECODER_BACKENDS, DecoderBackend, TextDecoder, load_text_decoder
from signet_runtime.generation.fast import FastDecoder
from signet_runtime.generation.optimum import OptimumDecoder
from signet_runtime.installation import how_to_install
from signet_runtime.regions import extract_regions
from signet_runtime.translator import Translator

LENGTHS = [30, 7, 1, 55]


@pytest.fixture(scope="module", params=DECODER_BACKENDS)
def engines(loaded: Bundle, request: pytest.FixtureRequest) -> tuple[OnnxEncoder, TextDecoder]:
    return load(loaded, request.param)


def load(bundle: Bundle, way: DecoderBackend) -> tuple[OnnxEncoder, TextDecoder]:
    encoder = OnnxEncoder(create_session(bundle.file("encoder.onnx"), "cpu"))
    return encoder, load_text_decoder(bundle, bundle.engine(), "cpu", encoder.session, way)


@pytest.fixture(scope="module")
def clips() -> list[dict[str, np.ndarray]]:
    return [extract_regions(random_poses(seed, frames)) for seed, frames in enumerate(LENGTHS)]


def test_encoder_pads_and_masks(loaded: Bundle, clips: list[dict[str, np.ndarray]]) -> None:
    encoder = OnnxEncoder(create_session(loaded.file("encoder.onnx"), "cpu"))
    together = encoder(clips)
    assert together.hidden_states.shape[:2] == together.attention_mask.shape == (4, PROMPT + max(LENGTHS))
    assert together.attention_mask.sum(axis=1).tolist() == [PROMPT + length for length in LENGTHS]
    np.testing.assert_allclose(together.routing_weights, [ROUTING] * 4)
    for row, (clip, length) in enumerate(zip(clips, LENGTHS, strict=True)):
        alone = encoder([clip])
        assert alone.attention_mask.tolist() == [[1] * (PROMPT + length)]
        np.testing.assert_allclose(
            together.hidden_states[row, : PROMPT + length], alone.hidden_states[0], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("num_beams", [1, 4])
def test_tokens_are_pytorchs(
    tiny: TinyBundle, engines: tuple[OnnxEncoder, TextDecoder], clips: list[dict[str, np.ndarray]], num_beams: int
) -> None:
    encoder, decoder = engines
    encoded = encoder(clips)
    expected = pytorch_tokens(tiny.language_model, encoded, num_beams)
    assert decoder.generate(encoded, num_beams) == expected
    assert decoder.generate(encoded, num_beams) == expected  # the states are not changed by being used
    assert [decoder.generate(encoder([clip]), num_beams)[0] for clip in clips] == expected
    assert len({tuple(tokens) for tokens in expected}) > 1  # or this test would show nothing


def pytorch_tokens(language_model: Path, encoded: Encoded, num_beams: int) -> list[list[int]]:
    import torch
    from transformers import MT5ForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    model = MT5ForConditionalGeneration.from_pretrained(language_model).eval()
    tokens = model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=torch.from_numpy(encoded.hidden_states)),
        attention_mask=torch.from_numpy(encoded.attention_mask),
        num_beams=num_beams,
        max_new_tokens=12,
    )
    return [[token for token in row if token > 1] for row in tokens.tolist()]  # 0 pads and starts, 1 ends


def test_beams_default_to_the_bundles(
    engines: tuple[OnnxEncoder, TextDecoder], clips: list[dict[str, np.ndarray]]
) -> None:
    encoder, decoder = engines
    greedy, beam = decoder.generate(encoder(clips), 1), decoder.generate(encoder(clips), 4)
    assert decoder.generate(encoder(clips)) == beam != greedy


def test_text_is_spelled_by_the_tokenizer(tiny: TinyBundle, engines: tuple[OnnxEncoder, TextDecoder]) -> None:
    import sentencepiece

    spelling = sentencepiece.SentencePieceProcessor(model_file=str(tiny.path / "spiece.model"))
    assert engines[1].text([spelling.encode("water house"), []]) == ["water house", ""]
    beyond = spelling.get_piece_size()  # mT5's vocabulary is larger than its tokenizer's
    assert engines[1].text([[*spelling.encode("water"), beyond, beyond + 9]]) == ["water"]


def test_an_encoder_with_other_inputs_is_refused(loaded: Bundle) -> None:
    with pytest.raises(BundleError, match="the encoder engine has the inputs encoder_attention_mask, "):
        OnnxEncoder(create_session(loaded.file("decoder_model.onnx"), "cpu"))


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"encoder\.onnx: ONNX Runtime cannot load it") as raised:
        create_session(tmp_path / "encoder.onnx", "cpu")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("way", "file", "contents"),
    [
        ("optimum", "config.json", "{"),
        ("optimum", "generation_config.json", "{"),
        ("fast", "generation_config.json", "{"),
        ("fast", "generation_config.json", "[]"),
        ("fast", "generation_config.json", None),
        ("fast", "tokenizer_config.json", "{"),
        ("fast", "tokenizer_config.json", "[]"),
        ("fast", "spiece.model", "no model"),
        ("fast", "spiece.model", None),
    ],
)
def test_damaged_language_model_files(bundle_copy: Path, way: DecoderBackend, file: str, contents: str | None) -> None:
    bundle = Bundle.load(bundle_copy)
    if contents is None:
        (bundle_copy / file).unlink()
    else:
        (bundle_copy / file).write_text(contents)
    with pytest.raises(BundleError, match=r"cannot be read|damaged") as raised:
        load(bundle, way)
    assert "\n" not in str(raised.value)
    assert str(bundle_copy) in str(raised.value)


def test_sessions_that_are_no_decoders(loaded: Bundle) -> None:
    decoder = create_session(loaded.file("decoder_model.onnx"), "cpu")
    with pytest.raises(BundleError, match="are not a decoder and a decoder with past"):
        FastDecoder.from_bundle(loaded, decoder, decoder)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_only_floating_point_weights_are_left_where_they_lie(
    loaded: Bundle, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr(
        session_module, "create_session", lambda path, device, prepack=True: opened.append(prepack) or path
    )
    monkeypatch.setattr(FastDecoder, "from_bundle", lambda *arguments: arguments)
    monkeypatch.setattr(OptimumDecoder, "onnx", lambda *arguments: arguments)
    engine = loaded.engine().model_copy(update={"precision": precision})
    for way in DECODER_BACKENDS:
        load_text_decoder(loaded, engine, "cpu", None, way)  # type: ignore[arg-type]
    assert opened == [precision == "int8", True, True, True]


def test_weights_that_are_not_rearranged_compute_the_same(loaded: Bundle) -> None:
    feed = {
        "input_ids": np.zeros((2, 1), np.int64),
        "encoder_hidden_states": np.random.default_rng(0).standard_normal((2, 9, 32), np.float32),
        "encoder_attention_mask": np.ones((2, 9), np.int64),
    }
    path = loaded.file("decoder_model.onnx")
    packed, mapped = (create_session(path, "cpu", prepack=prepack).run(None, feed) for prepack in (True, False))
    for expected, found in zip(packed, mapped, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_decoder_that_fails(loaded: Bundle) -> None:
    _, decoder = load(loaded, "fast")
    narrow = HostEncoded(np.zeros((1, 5, 7), np.float32), np.ones((1, 5), np.int64), np.ones((1, 3), np.float32))
    with pytest.raises(EngineError, match="the text decoder failed") as raised:
        decoder.generate(narrow)
    assert "\n" not in str(raised.value)


def test_fast_generation_does_not_drive_tensorrt(loaded: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = loaded.engine().model_copy(update={"kind": "tensorrt"})
    monkeypatch.setattr(Bundle, "engine", lambda self, kind="onnx", precision=None: engine)
    with pytest.raises(EngineError, match="TensorRT engines take --generation optimum"):
        Translator(loaded, engine="trt", generation="fast")


def test_optimum_that_is_not_installed(tiny: TinyBundle) -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["torch", "transformers", "optimum"]))
from signet_runtime.commands.translate import main
main([{str(tiny.path / "nothing.npz")!r}, {str(Path(__file__))!r}, "--bundle", {str(tiny.path)!r}, "--generation",
      "optimum"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1].endswith(f"{how_to_install('optimum')}, or take --generation fast")


def test_a_provider_that_was_not_compiled_in(loaded: Bundle) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match=r"device cuda is not available: .* without CUDAExecutionProvider; .*gpu"):
        create_session(loaded.file("encoder.onnx"), "cuda")


def test_a_provider_that_silently_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    # What ONNX Runtime does when CUDA's libraries are missing: the provider is listed, the session has it not.
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers, **rest: real(model, options, providers=providers[-1:], **rest),
    )
    problem = provider_problem("CUDAExecutionProvider")
    assert problem is not None
    assert "does not load" in problem
    assert "providers_cuda" in problem or "providers_shared" in problem  # which library
    assert provider_problem("CPUExecutionProvider") is not None  # not listed by this one


def test_loading_and_decoding_never_touch_the_network(tiny: TinyBundle) -> None:
    code = f"""
import socket, sys
def refuse(*args, **kwargs): raise SystemExit("the network was touched")
socket.socket.connect = socket.getaddrinfo = refuse
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tiny_bundle import random_poses
from signet_runtime import Translator
from signet_runtime.installation import how_to_install
Translator.from_bundle({str(tiny.path)!r}).translate(random_poses(0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
