"""A model repository for Triton: read by Triton's own schema, and run by nothing but what it declares."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from signet_export.cli import main
from signet_runtime.bundle import Bundle, demo_bundle_path
from signet_runtime.pose.sequence import PoseSequence
from signet_runtime.regions import prepare
from signet_runtime.translator import Translator

NUMPY = {"TYPE_FP32": np.float32, "TYPE_FP16": np.float16, "TYPE_INT64": np.int64, "TYPE_BOOL": np.bool_}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("triton") / "repository"
    done = CliRunner().invoke(main, ["--serve-with", "triton", str(demo_bundle_path()), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.output.split() == ["signet-demo_encoder", "signet-demo_decoder", "signet-demo_decoder_with_past"]
    return out


@cache
def schema() -> Any:
    """Triton's own, out of its client, whose other requirements do not go with ours: the file is taken by itself."""
    try:
        path = distribution("tritonclient").locate_file("tritonclient/grpc/model_config_pb2.py")
    except PackageNotFoundError:
        pytest.skip("Triton's schema is not here; it comes with: pip install --no-deps tritonclient")
    spec = spec_from_file_location("model_config_pb2", str(path))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(repository: Path, name: str) -> Any:
    """A model's configuration."""
    from google.protobuf import text_format

    text = (repository / name / "config.pbtxt").read_text()
    return text_format.Parse(text, schema().ModelConfig())


class Served:
    """Runs a model as Triton would: what is not declared does not exist, and shapes are as they are declared."""

    def __init__(self, repository: Path, name: str) -> None:
        import onnxruntime

        self.config = read(repository, name)
        assert self.config.name == name and self.config.backend == "onnxruntime"
        types = schema().DataType.Name
        self.inputs, self.outputs = (
            {t.name: (NUMPY[types(t.data_type)], list(t.dims)) for t in tensors}
            for tensors in (self.config.input, self.config.output)
        )
        self.session = onnxruntime.InferenceSession(repository / name / "1" / "model.onnx")

    def __call__(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert set(given) == set(self.inputs)
        batches = {len(array) for array in given.values()}
        assert len(batches) == 1 and max(batches) <= self.config.max_batch_size
        self.check(given, self.inputs)
        found = dict(zip(self.outputs, self.session.run(list(self.outputs), given), strict=True))
        self.check(found, self.outputs)
        return found

    @staticmethod
    def check(arrays: dict[str, np.ndarray], declared: dict[str, Any]) -> None:
        for name, array in arrays.items():
            dtype, dims = declared[name]
            assert array.dtype == dtype, name
            assert array.ndim == len(dims) + 1, name
            assert all(size in (-1, have) for size, have in zip(dims, array.shape[1:], strict=True)), name


def spell(served: dict[str, Served], clip: PoseSequence, bundle: Bundle) -> list[int]:
    """Greedy search by the three models alone."""
    regions = prepare(clip, bundle.manifest)
    frames = len(regions["body"])
    encoded = served["encoder"](
        {name: array[None] for name, array in regions.items()} | {"attention_mask": np.ones((1, frames), np.int64)}
    )
    states = {
        "encoder_hidden_states": encoded["encoder_hidden_states"],
        "encoder_attention_mask": encoded["encoder_attention_mask"],
    }
    tokens: list[int] = []
    model, past, last = served["decoder"], dict[str, np.ndarray](), 0
    for _ in range(bundle.manifest.generation.max_new_tokens):
        given = {**states, **past, "input_ids": np.array([[last]], np.int64)}
        found = model({name: array for name, array in given.items() if name in model.inputs})
        past |= {n.replace("present", "past_key_values", 1): a for n, a in found.items() if n.startswith("present")}
        last = int(found["logits"][0, -1].argmax())
        if last == 1:
            break
        tokens.append(last)
        model = served["decoder_with_past"]
    return tokens


def test_what_is_declared_is_enough_to_translate(repository: Path) -> None:
    bundle = Bundle.load()
    served = {part: Served(repository, f"signet-demo_{part}") for part in ("encoder", "decoder", "decoder_with_past")}
    rng = np.random.default_rng()
    translator = Translator(bundle, num_beams=1)
    for frames in (7, 30):
        motion = rng.normal(0, 0.02, (frames, 133, 2)).cumsum(axis=0) + rng.uniform(0.2, 0.8, (1, 133, 2))
        clip = PoseSequence(motion, np.ones((frames, 133)), 6.25, (640, 480), "mediapipe")
        expected = translator.translate_poses([clip])[0].text
        assert translator.decoder.text([spell(served, clip, bundle)]) == [expected]


def test_the_encoder_tells_what_a_client_has_to_know(repository: Path) -> None:
    manifest = Bundle.load().manifest
    told = read(repository, "signet-demo_encoder").parameters
    assert told["normalisation"].string_value == manifest.normalisation
    assert float(told["frame_rate"].string_value) == manifest.frame_rate
    assert told["notice"].string_value == manifest.notice
    assert read(repository, "signet-demo_decoder").max_batch_size == 8 * manifest.generation.num_beams


def test_the_repository_has_models_and_nothing_else(repository: Path) -> None:
    files = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    parts = ("encoder", "decoder", "decoder_with_past")
    of_models = {f"signet-demo_{part}/{file}" for part in parts for file in ("config.pbtxt", "1/model.onnx")}
    assert files - of_models == {f"signet-demo_{part}/1/decoder.onnx_data" for part in parts[1:]}
    for path in demo_bundle_path().rglob("*.onnx*"):
        assert path.stat().st_nlink == 1  # nobody who changes the repository changes the bundle


def test_nothing_is_overwritten(repository: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--serve-with", "triton", str(demo_bundle_path()), "--out", str(repository)])
    assert done.exit_code == 3 and "exists already" in done.output
    done = CliRunner().invoke(main, ["serve-with", "triton", str(tmp_path), "--out", str(tmp_path / "new")])
    assert done.exit_code == 4 and not (tmp_path / "new").exists()
    done = CliRunner().invoke(
        main, ["serve-with", "triton", str(demo_bundle_path()), "--out", str(tmp_path / "new"), "--precision", "fp16"]
    )
    assert done.exit_code == 5 and not (tmp_path / "new").exists()
