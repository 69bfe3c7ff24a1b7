"""TensorRT's runtime side through a stand-in for its library: every call is checked, the numbers are ONNX Runtime's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import fake_tensorrt
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tiny_bundle import PROMPT, TinyBundle, random_poses

from signet_runtime.bundle import Bundle, Engine, EngineBuild, ShapeRange, read_manifest, write_manifest
from signet_runtime.engines import parity, tensorrt, tensorrt_model
from signet_runtime.engines.onnx import OnnxEncoder
from signet_runtime.engines.session import create_session
from signet_runtime.engines.tensorrt import Gpu, TensorRTEngine, load_library
from signet_runtime.engines.tensorrt_model import TensorRTEncoder, TensorRTModel, load_model, text_model
from signet_runtime.errors import BundleError, EngineError, InputError
from signet_runtime.generation.hypothesis import CROSS_ATTENTION
from signet_runtime.generation.optimum import OptimumDecoder
from signet_runtime.regions import extract_regions
from signet_runtime.translator import Translator

SHAPES = ShapeRange(frames=(2, 20, 60), clips=2, beams=4, tokens=12, prompt=PROMPT)
GRAPHS = {
    "encoder.engine": "encoder.onnx",
    "decoder.engine": "decoder_model.onnx",
    "decoder_with_past.engine": "decoder_with_past_model.onnx",
}


@pytest.fixture(autouse=True)
def _fake_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's stand-in, on a machine that seems to have an RTX 3090 whose memory is the CPU's."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", fake_tensorrt)
    for module in (tensorrt, tensorrt_model, parity):
        monkeypatch.setattr(module, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(tensorrt, "_stream_handle", lambda: 0)
    put_gpu(monkeypatch, Gpu("NVIDIA GeForce RTX 3090", "sm86"))
    fake_tensorrt.executed.clear()
    fake_tensorrt.caches.clear()


def put_gpu(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None) -> None:
    for module in (tensorrt, parity):
        monkeypatch.setattr(module, "this_gpu", lambda: gpu)


def shapes(name: str, declared: tuple[int, ...]) -> list[tuple[int, ...]]:
    fewest, likely, most = SHAPES.frames
    if name in ("body", "left_hand", "right_hand", "face", "attention_mask"):
        sizes = [(1, fewest), (1, likely), (2, most)]
    elif name == "input_ids":
        sizes = [(1, 1), (4, 1), (8, 1)]
    elif ".decoder." in name:
        sizes = [(1, 1), (4, 6), (8, 12)]
    else:
        sizes = [(1, PROMPT + fewest), (4, PROMPT + likely), (8, PROMPT + most)]
    return [(b, *(n if d < 0 else d for d in declared[1:])) for b, n in sizes]


def compile_graph(graph: Path, engine: Path) -> None:
    logger = tensorrt.make_logger(fake_tensorrt)
    builder, config = fake_tensorrt.Builder(logger), fake_tensorrt.BuilderConfig()
    network, profile = builder.create_network(1), builder.create_optimization_profile()
    assert fake_tensorrt.OnnxParser(network, logger).parse_from_file(str(graph))
    for tensor in [output for output in network.outputs if output.name == CROSS_ATTENTION]:
        network.unmark_output(tensor)  # as the export does
    for tensor in network.inputs:
        profile.set_shape(tensor.name, *shapes(tensor.name, tensor.shape))
    config.num_compute_capabilities = 1
    config.set_compute_capability(fake_tensorrt.ComputeCapability.SM86, 0)
    config.add_optimization_profile(profile)
    contents = builder.build_serialized_network(network, config)
    assert contents is not None
    engine.write_bytes(contents)


def add_engines(path: Path) -> Bundle:
    for engine, graph in GRAPHS.items():
        compile_graph(path / graph, path / engine)
    manifest = read_manifest(path)
    build = EngineBuild(version=fake_tensorrt.__version__, target="sm86", shapes=SHAPES, executed=False)
    encoder, decoder, later = GRAPHS
    engine = Engine(
        kind="tensorrt-rtx", precision="fp32", encoder=encoder, decoder=decoder, decoder_with_past=later, build=build
    )
    write_manifest(path, manifest.model_copy(update={"engines": [manifest.engines[0], engine]}))
    bundle = Bundle.load(path)
    bundle.trust_engines()
    return bundle


@pytest.fixture(scope="module")
def built(tiny: TinyBundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return add_engines(Path(shutil.copytree(tiny.path, tmp_path_factory.mktemp("engines") / "bundle")))


@pytest.fixture
def loaded_engines(built: Bundle) -> TensorRTModel:
    return load_model(built, built.engine("trt"))


@pytest.fixture(scope="module")
def clips() -> list[dict[str, np.ndarray]]:
    return [extract_regions(random_poses(seed, frames)) for seed, frames in enumerate([30, 7, 55])]


def make_model(bundle: Bundle, engines: TensorRTModel, tokens: int = 12) -> object:
    from transformers import AutoConfig, GenerationConfig

    search = GenerationConfig.from_pretrained(bundle.path)
    search.update(max_new_tokens=tokens, do_sample=False)
    search.max_length = None
    config = AutoConfig.from_pretrained(bundle.path)
    return text_model(engines.decoder, engines.decoder_with_past, config, search)


def generate(model: object, encoded: tensorrt_model.DeviceEncoded, beams: int) -> list[list[int]]:
    from transformers.modeling_outputs import BaseModelOutput

    tokens = model.generate(  # type: ignore[attr-defined]
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded.hidden_states),
        attention_mask=encoded.attention_mask,
        num_beams=beams,
    )
    return [[token for token in row if token > 1] for row in tokens.tolist()]


def onnx_decoder(bundle: Bundle) -> tuple[OnnxEncoder, OptimumDecoder]:
    names = ("encoder.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")
    sessions = [create_session(bundle.file(name), "cpu") for name in names]
    return OnnxEncoder(sessions[0]), OptimumDecoder.onnx(bundle, *sessions)


@pytest.mark.parametrize("beams", [1, 4])
def test_the_same_tokens_as_onnx(
    built: Bundle, loaded_engines: TensorRTModel, clips: list[dict[str, np.ndarray]], beams: int
) -> None:
    encoder, decoder = onnx_decoder(built)
    model = make_model(built, loaded_engines)
    found = []
    for batch in (clips[:2], clips[2:]):
        expected, encoded = encoder(batch), loaded_engines.encoder(batch)
        np.testing.assert_allclose(encoded.hidden_states.numpy(), expected.hidden_states, atol=1e-5)
        assert encoded.attention_mask.tolist() == expected.attention_mask.tolist()
        tokens = generate(model, encoded, beams)
        assert tokens == decoder.generate(expected, beams)
        found += tokens
    assert len({tuple(tokens) for tokens in found}) > 1  # or this test would show nothing


def test_a_translator_takes_the_engine_that_is_asked_for(built: Bundle) -> None:
    poses = [random_poses(seed, frames) for seed, frames in enumerate([30, 7, 55])]
    with Translator(built) as onnx, Translator(built, engine="trt") as trt:
        expected, found = onnx.translate_poses(poses), trt.translate_poses(poses)  # three clips, two at a time
    assert [translation.text for translation in found] == [translation.text for translation in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(list(a.routing.values()), list(b.routing.values()), atol=1e-6)
    with pytest.raises(EngineError, match="has no trt engine"):
        Translator.from_bundle(engine="trt")


def test_the_cache_goes_from_step_to_step_without_a_copy(
    built: Bundle, loaded_engines: TensorRTModel, clips: list[dict[str, np.ndarray]]
) -> None:
    encoded = loaded_engines.encoder(clips[:1])
    fake_tensorrt.executed.clear()
    generate(make_model(built, loaded_engines), encoded, beams=1)
    first, *later = fake_tensorrt.executed
    assert len(later) > 3
    assert first["inputs"]["encoder_hidden_states"] == encoded.hidden_states.data_ptr()
    before = first
    for step in later:
        for kind in ("key", "value"):
            past, present = f"past_key_values.0.{{}}.{kind}", f"present.0.{{}}.{kind}"
            assert step["inputs"][past.format("decoder")] == before["outputs"][present.format("decoder")]
            assert step["inputs"][past.format("encoder")] == first["outputs"][present.format("encoder")]
        before = step


@pytest.mark.parametrize(("frames", "message"), [(1, "clip of 1 frames"), (61, "clip of 61 frames")])
def test_a_clip_outside_the_shapes(loaded_engines: TensorRTModel, frames: int, message: str) -> None:
    clip = extract_regions(random_poses(0, frames))
    with pytest.raises(InputError, match=f"{message}: the TensorRT engine takes 2 to 60; .*onnx engine"):
        loaded_engines.encoder([clip])
    assert loaded_engines.encoder.max_clips == 2
    clip = extract_regions(random_poses(0, 10))
    with pytest.raises(InputError, match="3 clips at once: the TensorRT engine takes 2"):
        loaded_engines.encoder([clip] * 3)


def test_more_beams_or_tokens_than_it_was_built_for(
    built: Bundle, loaded_engines: TensorRTModel, clips: list[dict[str, np.ndarray]]
) -> None:
    encoded = loaded_engines.encoder(clips[:1])
    with pytest.raises(InputError, match=r"decoder\.engine: .* of shape \(9, .* outside the engine's .*wider"):
        generate(make_model(built, loaded_engines), encoded, beams=9)
    model = make_model(built, loaded_engines, tokens=40)
    model.generation_config.min_new_tokens = 40  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"decoder_with_past\.engine: past_key_values\.0\.decoder\.key of shape \(1, "):
        generate(model, encoded, beams=1)


def load_one(bundle: Bundle, name: str = "encoder.engine") -> TensorRTEngine:
    engine = bundle.engine("trt")
    assert engine.build is not None
    return TensorRTEngine(bundle.path / name, engine.kind, engine.build)


def test_what_it_cannot_run_on(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpu(monkeypatch, Gpu("NVIDIA H100", "sm90"))
    with pytest.raises(EngineError, match=r"encoder\.engine: built for sm86 and NVIDIA H100 is sm90; export .* again"):
        load_one(built)
    put_gpu(monkeypatch, None)
    with pytest.raises(EngineError, match="needs a GPU and PyTorch sees none; use the onnx engine"):
        load_one(built)
    monkeypatch.setattr(fake_tensorrt, "__version__", "1.8.0.1")
    with pytest.raises(EngineError, match=r"built with TensorRT-RTX 1\.7\.1\.116 and here is 1\.8\.0\.1, .*again"):
        load_one(built)


def test_a_library_that_is_missing_or_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for kind, extra in (("tensorrt", "gpu"), ("tensorrt-rtx", "rtx")):
        module = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}[kind]
        monkeypatch.delitem(sys.modules, module, raising=False)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [str(tmp_path)])
            with pytest.raises(EngineError, match=rf"is not installed; pip install .*\[{extra}\]'"):
                load_library(kind)
            (tmp_path / f"{module}.py").write_text("raise OSError('libnvinfer.so: cannot open\\nshared object')")
            with pytest.raises(EngineError, match=r"cannot be loaded \(libnvinfer\.so: cannot open shared object\)"):
                load_library(kind)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda c: b"junk" + c[4:], "malformed engine"),
        (lambda c: c[:300], "deserialization failed"),
    ],
)
def test_a_damaged_file(built: Bundle, tmp_path: Path, damage: object, reason: str) -> None:
    bundle = Bundle(Path(shutil.copytree(built.path, tmp_path / "bundle")), built.manifest)
    file = bundle.path / "encoder.engine"
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(EngineError, match=rf"encoder\.engine: TensorRT-RTX cannot load it \(.*{reason}") as raised:
        load_one(bundle)
    assert "\n" not in str(raised.value)


def test_an_engine_of_something_else(built: Bundle) -> None:
    with pytest.raises(BundleError, match="not this model's engine, its inputs differ in"):
        TensorRTEncoder(load_one(built, "decoder.engine"), SHAPES)
    first, later = load_one(built, "decoder.engine"), load_one(built, "decoder_with_past.engine")
    swapped = TensorRTModel(None, later, first, ())  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="not this model's engine"):
        make_model(built, swapped)
    with pytest.raises(BundleError, match="its onnx engine is not a TensorRT engine"):
        load_model(built, built.engine("onnx"))


def test_parity_is_checked_once(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    check = parity.check
    monkeypatch.setattr(parity, "check", lambda *args: found.append(check(*args)))
    load_model(built, built.engine("trt"))
    load_model(built, built.engine("trt"))
    assert len(found) == 1
    assert 0 <= found[0] < 1e-5
    put_gpu(monkeypatch, Gpu("NVIDIA RTX A6000", "sm86"))  # another GPU of the kind has not run it
    load_model(built, built.engine("trt"))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("graph", "engine", "what"),
    [
        ("encoder.onnx", "encoder.engine", "encoder states"),
        ("decoder_model.onnx", "decoder.engine", "logits of step 1"),
        ("decoder_with_past_model.onnx", "decoder_with_past.engine", "logits of step 2"),
    ],
)
def test_an_engine_that_computes_something_else_is_refused(
    built: Bundle, tmp_path: Path, graph: str, engine: str, what: str
) -> None:
    path = Path(shutil.copytree(built.path, tmp_path / "bundle"))
    model = onnx.load(path / graph)
    weights = {weight.name: weight for weight in model.graph.initializer}
    weight = [weights[n.input[1]] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights][-1]
    values = numpy_helper.to_array(weight).copy()
    values[3] *= 1.05  # one row of a matrix, by a twentieth
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    compile_graph(tmp_path / "other.onnx", path / engine)
    write_manifest(path, built.manifest)
    bundle = Bundle.load(path)
    bundle.trust_engines()
    for _ in range(2):  # and it is not remembered as right
        with pytest.raises(EngineError, match=rf"engines are refused: {what} differ from ONNX by .*allowed for fp32"):
            load_model(bundle, bundle.engine("trt"))


def test_what_was_compiled_is_kept(built: Bundle, own_cache: Path) -> None:
    first = load_model(built, built.engine("trt"))
    assert fake_tensorrt.caches == []
    first.close()
    files = list((own_cache / "signet" / "tensorrt-rtx").iterdir())
    assert [file.read_bytes() for file in files] == [b"compiled"] * 3
    load_model(built, built.engine("trt"))
    assert fake_tensorrt.caches == [b"compiled"] * 3


def test_a_cache_that_cannot_be_written_is_no_obstacle(built: Bundle, own_cache: Path) -> None:
    engines = load_model(built, built.engine("trt"))
    (own_cache / "signet" / "tensorrt-rtx").write_text("a file where the directory should be")
    engines.close()
