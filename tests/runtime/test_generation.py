"""The exported engines say what PyTorch says, alone or in a padded batch, without asking anyone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import PROMPT, ROUTING, TinyBundle, random_poses

from signet_runtime.bundle import Bundle
from signet_runtime.engines.onnx import Encoded, Encoder
from signet_runtime.engines.session import create_session, provider_problem
from signet_runtime.errors import BundleError, EngineError
from signet_runtime.generation import TextDecoder
from signet_runtime.regions import extract_regions

LENGTHS = [30, 7, 1, 55]


@pytest.fixture(scope="module")
def engines(loaded: Bundle) -> tuple[Encoder, TextDecoder]:
    names = ("encoder.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")
    sessions = [create_session(loaded.file(name), "cpu") for name in names]
    return Encoder(sessions[0]), TextDecoder.onnx(loaded, *sessions)


@pytest.fixture(scope="module")
def clips() -> list[dict[str, np.ndarray]]:
    return [extract_regions(random_poses(seed, frames)) for seed, frames in enumerate(LENGTHS)]


def test_encoder_pads_and_masks(engines: tuple[Encoder, TextDecoder], clips: list[dict[str, np.ndarray]]) -> None:
    together = engines[0](clips)
    assert together.hidden_states.shape[:2] == together.attention_mask.shape == (4, PROMPT + max(LENGTHS))
    assert together.attention_mask.sum(axis=1).tolist() == [PROMPT + length for length in LENGTHS]
    np.testing.assert_allclose(together.routing_weights, [ROUTING] * 4)
    for row, (clip, length) in enumerate(zip(clips, LENGTHS, strict=True)):
        alone = engines[0]([clip])
        assert alone.attention_mask.tolist() == [[1] * (PROMPT + length)]
        np.testing.assert_allclose(
            together.hidden_states[row, : PROMPT + length], alone.hidden_states[0], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("num_beams", [1, 4])
def test_tokens_are_pytorchs(
    tiny: TinyBundle, engines: tuple[Encoder, TextDecoder], clips: list[dict[str, np.ndarray]], num_beams: int
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


def test_beams_default_to_the_bundles(engines: tuple[Encoder, TextDecoder], clips: list[dict[str, np.ndarray]]) -> None:
    encoder, decoder = engines
    greedy, beam = decoder.generate(encoder(clips), 1), decoder.generate(encoder(clips), 4)
    assert decoder.generate(encoder(clips)) == beam != greedy


def test_text_is_spelled_by_the_tokenizer(tiny: TinyBundle, engines: tuple[Encoder, TextDecoder]) -> None:
    import sentencepiece

    spelling = sentencepiece.SentencePieceProcessor(model_file=str(tiny.path / "spiece.model"))
    assert engines[1].text([spelling.encode("water house"), []]) == ["water house", ""]
    beyond = spelling.get_piece_size()  # mT5's vocabulary is larger than its tokenizer's
    assert engines[1].text([[*spelling.encode("water"), beyond, beyond + 9]]) == ["water"]


def test_an_encoder_with_other_inputs_is_refused(loaded: Bundle) -> None:
    with pytest.raises(BundleError, match="the encoder engine has the inputs encoder_attention_mask, "):
        Encoder(create_session(loaded.file("decoder_model.onnx"), "cpu"))


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"encoder\.onnx: ONNX Runtime cannot load it") as raised:
        create_session(tmp_path / "encoder.onnx", "cpu")
    assert "\n" not in str(raised.value)


def test_damaged_language_model_files(bundle_copy: Path) -> None:
    bundle = Bundle.load(bundle_copy)
    session = create_session(bundle.file("encoder.onnx"), "cpu")
    (bundle_copy / "config.json").write_text("{")
    with pytest.raises(BundleError, match="the language model's files cannot be read") as raised:
        TextDecoder.onnx(bundle, session, session, session)
    assert "\n" not in str(raised.value)


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
Translator.from_bundle({str(tiny.path)!r}).translate(random_poses(0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
