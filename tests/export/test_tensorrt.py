"""Engines are built whole or not at all: with the real library where it is installed, with a stand-in everywhere."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tiny_bundle import PROMPT, make_tiny_bundle

import signet_export.tensorrt as building
from signet_export.tensorrt import Target, build_engines, choose_target, input_shapes
from signet_runtime.bundle import Bundle, Manifest, ShapeRange, read_manifest, write_manifest
from signet_runtime.engines.tensorrt import Gpu
from signet_runtime.errors import BundleError, EngineError
from signet_runtime.remembered import is_trusted

SHAPES = ShapeRange(frames=(1, 16, 64), clips=2, beams=4, tokens=12, prompt=PROMPT)
FOR_SM86 = Target("tensorrt-rtx", "sm86", None)
ENGINES = ("encoder.engine", "decoder.engine", "decoder_with_past.engine")
HELPERS = Path(__file__).parent.parent / "runtime"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny")).path


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "bundle"))


@pytest.fixture
def fake(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in, in this process and in those that build."""
    directory = tmp_path_factory.mktemp("library")
    for module in ("tensorrt_rtx_bindings", "tensorrt"):
        (directory / f"{module}.py").write_text((HELPERS / "fake_tensorrt.py").read_text())
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.setenv("PYTHONPATH", str(directory), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))


def build(bundle: Path, target: Target = FOR_SM86, **rest: object) -> building.BuiltEngines:
    return build_engines(bundle, read_manifest(bundle).engines[0], target, SHAPES, **rest)  # type: ignore[arg-type]


def recorded(bundle: Path) -> Path:
    """The bundle, its manifest now listing what was changed on purpose."""
    write_manifest(bundle, Manifest.model_validate_json((bundle / "signet.json").read_text()))
    return bundle


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_three_engines_and_what_they_are_bound_to(bundle: Path, fake: None) -> None:
    lines: list[str] = []
    built = build(bundle, report=lines.append)
    assert built.engine.kind == "tensorrt-rtx"
    assert (built.engine.encoder, built.engine.decoder, built.engine.decoder_with_past) == ENGINES
    assert built.engine.build is not None
    assert built.engine.build.model_dump() == {
        "version": "1.7.1.116",
        "target": "sm86",
        "shapes": SHAPES.model_dump(),
        "executed": False,
    }
    for part in built.parts:
        assert part.size == (bundle / part.file).stat().st_size
        assert part.seconds > 0
        assert not part.loaded
        assert part.peak_memory is None or part.peak_memory > 1e6
        assert (bundle / part.file).stat().st_mode & 0o777 == 0o666 & ~_umask()
    header = json.loads((bundle / "decoder_with_past.engine").read_bytes()[4:].split(b"\n")[0])
    assert header["shapes"]["past_key_values.0.decoder.key"] == [[1, 2, 1, 16], [4, 2, 6, 16], [8, 2, 12, 16]]
    assert header["shapes"]["past_key_values.0.encoder.key"] == [[1, 2, 3, 16], [4, 2, 18, 16], [8, 2, 66, 16]]
    assert header["tf32"] is False
    assert len(lines) == 6
    assert lines[0] == "TensorRT-RTX 1.7.1.116 for sm86: encoder.engine, 1 of 3 …"
    assert lines[5].startswith("decoder_with_past.engine: ")

    manifest = read_manifest(bundle)
    write_manifest(bundle, manifest.model_copy(update={"engines": [*manifest.engines, built.engine]}))
    loaded = Bundle.load(bundle, verify=True)
    assert loaded.engine("trt") == built.engine
    assert all(is_trusted(loaded.manifest.files[part.file].sha256) for part in built.parts)  # who builds may run them


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_classic_library_keeps_its_timings(bundle: Path, fake: None) -> None:
    target = Target("tensorrt", "sm86", Gpu("NVIDIA GeForce RTX 3090", "sm86"))
    assert build(bundle, target).parts[0].loaded
    (timings,) = (Path(os.environ["XDG_CACHE_HOME"]) / "signet" / "tensorrt").iterdir()
    assert timings.name == "1.7.1.116-sm86.timings"
    assert timings.read_bytes() == b"+++"  # each of the three added to what it was given


def test_timings_that_cannot_be_kept_are_no_obstacle(bundle: Path, fake: None) -> None:
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "signet"
    cache.mkdir(parents=True)
    (cache / "tensorrt").write_text("a file where the directory should be")
    assert len(build(bundle, Target("tensorrt", "sm86", Gpu("NVIDIA GeForce RTX 3090", "sm86"))).parts) == 3


@pytest.mark.parametrize(
    ("fate", "message"),
    [
        (
            "fail",
            r"for sm86: TensorRT-RTX cannot build it: Error Code 1: Cannot compile operation '/MatMul'",
        ),
        ("killed", r"encoder\.onnx for sm86: the build was ended by signal 9; .* when memory runs out"),
    ],
)
def test_a_build_that_fails(bundle: Path, fake: None, monkeypatch: pytest.MonkeyPatch, fate: str, message: str) -> None:
    before = listing(bundle)
    monkeypatch.setenv("FAKE_TENSORRT_BUILD", fate)
    with pytest.raises(EngineError, match=message) as raised:
        build(bundle)
    assert "\n" not in str(raised.value)
    assert listing(bundle) == before


def test_a_full_disk(bundle: Path, fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing(bundle)
    monkeypatch.setenv("FAKE_TENSORRT_BUILD", "disk")
    with pytest.raises(OSError, match="File too large"):
        build(bundle)
    assert listing(bundle) == before


def test_ctrl_c_ends_the_build_at_once(
    bundle: Path, fake: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = listing(bundle)
    monkeypatch.setenv("FAKE_TENSORRT_BUILD", "hang")
    monkeypatch.setenv("FAKE_TENSORRT_PID", str(tmp_path / "pid"))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(HELPERS), str(Path(__file__).parent)])
    )
    code = f"import test_tensorrt as t; from pathlib import Path; t.build(Path({str(bundle)!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        assert parent.poll() is None
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert listing(bundle) == before


def test_graphs_that_cannot_become_engines(bundle: Path, fake: None) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 4]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Unknown", ["x"], ["y"], name="/layer.3/odd")], "g", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    cases = {
        r"TensorRT-RTX cannot read it: node /layer\.3/odd \(Unknown\): Plugin not found": model.SerializeToString(),
        "TensorRT-RTX cannot read it: Assertion failed: Failed to parse the ONNX model": b"junk" * 100,
        r"its inputs are not those of encoder\.engine: attention_mask, body, ": (
            bundle / "decoder_model.onnx"
        ).read_bytes(),
    }
    engine = read_manifest(bundle).engines[0]
    for message, contents in cases.items():
        (bundle / "encoder.onnx").write_bytes(contents)
        before = listing(bundle)
        with pytest.raises(EngineError, match=rf"^encoder\.onnx for sm86: {message}") as raised:
            build_engines(bundle, engine, FOR_SM86, SHAPES)
        assert "\n" not in str(raised.value)
        assert listing(bundle) == before
    (bundle / "encoder.onnx").unlink()
    with pytest.raises(BundleError, match=r"encoder\.onnx: missing from the bundle"):
        build_engines(bundle, engine, FOR_SM86, SHAPES)


def test_masks_of_another_type_are_refused(bundle: Path, fake: None) -> None:
    model = onnx.load(bundle / "encoder.onnx")
    (mask,) = (value for value in model.graph.input if value.name == "attention_mask")
    mask.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, bundle / "encoder.onnx")
    with pytest.raises(EngineError, match="attention_mask is FLOAT, which the runtime does not give or read"):
        build(recorded(bundle))


@given(
    frames=st.lists(st.integers(1, 2000), min_size=3, max_size=3).map(sorted),
    clips=st.integers(1, 8),
    beams=st.integers(1, 16),
    tokens=st.integers(1, 300),
    prompt=st.integers(0, 40),
)
def test_shapes_are_ordered_and_fit_the_graph(
    frames: list[int], clips: int, beams: int, tokens: int, prompt: int
) -> None:
    limits = ShapeRange(frames=tuple(frames), clips=clips, beams=beams, tokens=tokens, prompt=prompt)  # type: ignore[arg-type]
    graph = {
        "body": (-1, -1, 9, 3),
        "attention_mask": (-1, -1),
        "input_ids": (-1, -1),
        "encoder_attention_mask": (-1, -1),
        "encoder_hidden_states": (-1, -1, 768),
        "past_key_values.0.decoder.key": (-1, 12, -1, 64),
        "past_key_values.11.encoder.value": (-1, 12, -1, 64),
    }
    found = {name: input_shapes(name, shape, limits) for name, shape in graph.items()}
    for name, shape in graph.items():
        for sizes in zip(shape, *found[name], strict=True):
            declared, *in_range = sizes
            assert in_range == sorted(in_range)
            assert in_range[0] >= 1
            assert declared < 0 or set(in_range) == {declared}
    # What the encoder puts out is what the decoders take, and every beam of every clip has a row.
    assert found["encoder_hidden_states"][2][:2] == (clips * beams, prompt + frames[2])
    assert found["encoder_attention_mask"][0] == (1, prompt + frames[0])
    assert found["body"][2] == (clips, frames[2], 9, 3)
    assert found["past_key_values.0.decoder.key"][2] == (clips * beams, 12, tokens, 64)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("tensorrt", "tensorrt_rtx_bindings"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    find = importlib.util.find_spec
    names = ("tensorrt", "tensorrt_rtx_bindings")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))


def put_gpu(monkeypatch: pytest.MonkeyPatch, sm: str | None) -> Gpu | None:
    gpu = Gpu("NVIDIA something", sm) if sm else None
    monkeypatch.setattr(building, "this_gpu", lambda: gpu)
    return gpu


def test_targets_without_a_gpu(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpu(monkeypatch, None)
    lines: list[str] = []
    assert choose_target(None, lines.append) == FOR_SM86
    assert len(lines) == 1
    assert "no GPU here" in lines[0]
    assert "sm86 (RTX 3090)" in lines[0]
    for name in ("sm86", "SM86", "rtx3090"):
        assert choose_target(name, lines.append) == FOR_SM86
    assert choose_target("rtx5090", lines.append).sm == "sm120"
    assert len(lines) == 1  # what was asked for needs no word
    with pytest.raises(EngineError, match="--target this-gpu: PyTorch sees no GPU here"):
        choose_target("this-gpu", lines.append)
    with pytest.raises(EngineError, match="--target a100: not this-gpu, sm86"):
        choose_target("a100", lines.append)
    with pytest.raises(EngineError, match=r"target sm90: TensorRT-RTX builds for sm75, sm86, sm120$"):
        choose_target("sm90", lines.append)


def test_targets_with_a_gpu(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = put_gpu(monkeypatch, "sm86")
    lines: list[str] = []
    for name in (None, "this-gpu", "rtx3090"):
        assert choose_target(name, lines.append) == Target("tensorrt", "sm86", gpu)
    assert choose_target("rtx5090", lines.append) == Target("tensorrt-rtx", "sm120", None)
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, find=importlib.util.find_spec: None if name == "tensorrt" else find(name),
    )
    assert choose_target(None, lines.append) == Target("tensorrt-rtx", "sm86", gpu)
    put_gpu(monkeypatch, "sm90")
    with pytest.raises(EngineError, match=r"target sm90: .*; for this GPU pip install .*\[gpu\]"):
        choose_target(None, lines.append)
    assert lines == []


def test_no_library(nothing_installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpu(monkeypatch, None)
    with pytest.raises(EngineError, match=r"no TensorRT that builds for sm86 is .*pip install .*\[rtx\]'$"):
        choose_target("sm86", lambda line: None)
    put_gpu(monkeypatch, "sm86")
    with pytest.raises(EngineError, match=r"\[rtx\]' or, for this GPU, pip install .*\[gpu\]'$"):
        choose_target(None, lambda line: None)


needs_library = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT-RTX is not installed"
)


@needs_library
def test_the_real_library_builds_for_a_gpu_that_is_not_here(bundle: Path) -> None:
    import tensorrt_rtx_bindings

    before = set(listing(bundle))
    built = build(bundle)
    assert built.engine.build is not None
    assert built.engine.build.version == tensorrt_rtx_bindings.__version__
    assert set(listing(bundle)) - before == set(ENGINES)
    assert all(part.size > 10_000 for part in built.parts)
    manifest = read_manifest(bundle)
    write_manifest(bundle, manifest.model_copy(update={"engines": [*manifest.engines, built.engine]}))
    Bundle.load(bundle, verify=True)


@needs_library
def test_the_real_library_names_the_node_that_it_cannot_read(bundle: Path) -> None:
    model = onnx.load(bundle / "encoder.onnx")
    model.graph.node[4].name, model.graph.node[4].op_type = "/layer.3/odd", "Unknown"
    onnx.save(model, bundle / "encoder.onnx")
    before = listing(recorded(bundle))
    with pytest.raises(EngineError, match=r"for sm86: TensorRT-RTX cannot read it: node /layer\.3/odd \(Unknown\): "):
        build(bundle)
    assert listing(bundle) == before


@needs_library
def test_the_real_library_cannot_multiply_fp32_on_turing(bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"for sm75: .* cannot build it: .*FP32 GEMM is not supported") as raised:
        build(bundle, Target("tensorrt-rtx", "sm75", None))
    assert "\n" not in str(raised.value)
