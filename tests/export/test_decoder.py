"""The exported decoders: Optimum's, with every weight on disk once."""

from __future__ import annotations

import copy
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from transformers import MT5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from signet_export.decoder import DECODER, DECODER_DATA, DECODER_WITH_PAST, disk_needed, export_decoders, share_weights
from signet_runtime.errors import BundleError, OutputError
from signet_train.config import LanguageModelConfig
from signet_train.model.signet import build_language_model
from signet_train.tokenizer import train_tokenizer

_SIZE = {"vocab_size": 640, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2}
_ALPHABET = ["abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture(scope="module")
def language_model() -> MT5ForConditionalGeneration:
    torch.manual_seed(0)
    return build_language_model(LanguageModelConfig.model_validate(_SIZE)).eval()


@pytest.fixture(scope="module")
def exported(language_model: MT5ForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported")
    export_decoders(language_model, train_tokenizer(_ALPHABET, 64), directory)
    return directory


def _external(directory: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """(graph, tensor) -> its place in the file of weights."""
    places = {}
    for name in (DECODER, DECODER_WITH_PAST):
        for tensor in onnx.load(directory / name, load_external_data=False).graph.initializer:
            if uses_external_data(tensor):
                info = ExternalDataInfo(tensor)
                assert info.location == DECODER_DATA
                places[name, tensor.name] = (info.offset, info.length)
    return places


def _tensors(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_graphs_are_those_that_optimum_writes(
    language_model: MT5ForConditionalGeneration, exported: Path, tmp_path: Path
) -> None:
    from optimum.exporters.onnx import main_export

    language_model.save_pretrained(tmp_path / "source")
    train_tokenizer(_ALPHABET, 64).save_pretrained(tmp_path / "source")
    main_export(
        str(tmp_path / "source"),
        output=str(tmp_path / "target"),
        task="text2text-generation-with-past",
        monolith=False,
        no_post_process=True,
        do_validation=False,
    )
    for name in (DECODER, DECODER_WITH_PAST):
        ours, theirs = onnx.load(exported / name), onnx.load(tmp_path / "target" / name)
        for graph in (ours.graph, theirs.graph):
            for tensor in graph.initializer:  # where it came from stays noted in it
                tensor.ClearField("data_location")
        assert ours.graph == theirs.graph
        assert ours.opset_import == theirs.opset_import
    for name in ("config.json", "generation_config.json"):
        assert (exported / name).read_text() == (tmp_path / "target" / name).read_text()


def test_every_weight_is_stored_once(language_model: MT5ForConditionalGeneration, exported: Path) -> None:
    places, weights = _external(exported), {name: _tensors(exported / name) for name in (DECODER, DECODER_WITH_PAST)}
    distinct: dict[bytes, tuple[int, int]] = {}
    for (graph, name), place in places.items():
        assert distinct.setdefault(weights[graph][name].tobytes(), place) == place, f"{graph}: {name} is stored twice"
    first, later = ({p for (graph, _), p in places.items() if graph == g} for g in (DECODER, DECODER_WITH_PAST))
    assert later < first, "all that later tokens need, the first needs too"
    assert len(first - later) == 4, "only the keys and values of two layers' cross-attention are the first's alone"
    stored, padding = (exported / DECODER_DATA).stat().st_size, 64 * len(distinct)
    assert sum(len(w) for w in distinct) <= stored <= sum(len(w) for w in distinct) + padding
    parameters = [*language_model.decoder.parameters(), language_model.lm_head.weight]
    assert stored <= sum(p.nbytes for p in parameters) + padding
    for graph in weights:
        for name, weight in weights[graph].items():
            assert (graph, name) in places or weight.nbytes < 1024


def test_both_are_valid_and_compute_what_the_model_does(
    language_model: MT5ForConditionalGeneration, exported: Path
) -> None:
    first, later = (onnxruntime.InferenceSession(str(exported / name)) for name in (DECODER, DECODER_WITH_PAST))
    for name in (DECODER, DECODER_WITH_PAST):
        onnx.checker.check_model(str(exported / name), full_check=True)
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 9, 32)).astype(np.float32)
    mask = (np.arange(9) < np.array([[9], [4], [1]])).astype(np.int64)
    tokens = rng.integers(0, 640, (3, 7))
    with torch.no_grad():
        expected = language_model(
            encoder_outputs=BaseModelOutput(torch.from_numpy(states)),  # type: ignore[arg-type]
            attention_mask=torch.from_numpy(mask),
            decoder_input_ids=torch.from_numpy(tokens),
        ).logits.numpy()
    outputs = [output.name for output in first.get_outputs()]
    given = {"encoder_hidden_states": states, "encoder_attention_mask": mask, "input_ids": tokens[:, :6]}
    found = dict(zip(outputs, first.run(None, given), strict=True))
    np.testing.assert_allclose(found["logits"], expected[:, :6], atol=1e-5, rtol=0)
    cache = {name.replace("present", "past_key_values"): found[name] for name in outputs if name != "logits"}
    wanted = {i.name for i in later.get_inputs()}
    step = {"encoder_attention_mask": mask, "input_ids": tokens[:, 6:], "encoder_hidden_states": states, **cache}
    (logits,) = later.run(["logits"], {name: step[name] for name in wanted})
    np.testing.assert_allclose(logits, expected[:, 6:], atol=1e-5, rtol=0)
    assert first.get_outputs()[0].shape[-1] == later.get_outputs()[0].shape[-1] == 640


def test_the_given_model_is_left_as_it_was(exported: Path, tmp_path: Path) -> None:
    model = build_language_model(LanguageModelConfig.model_validate(_SIZE)).eval()
    before, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    export_decoders(model, train_tokenizer(_ALPHABET, 64), tmp_path)
    assert model.config.to_dict() == config
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in exported.iterdir()}


def test_a_full_disk_is_told_before_anything_is_written(
    language_model: MT5ForConditionalGeneration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = disk_needed(language_model)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, needed - 1))
    with pytest.raises(OutputError, match=r"need 0\.0\d GB of disk and 0\.0\d GB are free"):
        export_decoders(language_model, train_tokenizer(_ALPHABET, 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def _graph(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The sum of each tensor's elements, as an output."""
    nodes = [helper.make_node("ReduceSum", [n], [f"{n}_sum"], keepdims=0) for n in tensors]
    outputs = [helper.make_tensor_value_info(f"{n}_sum", TensorProto.FLOAT, []) for n in tensors]
    initializers = [numpy_helper.from_array(a, n) for n, a in tensors.items()]
    graph = helper.make_graph(nodes, "sums", [], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 255, 256, 257, 5000])), max_size=6),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_sharing_changes_no_weight(
    tmp_path_factory: pytest.TempPathFactory, graphs: list[list[tuple[int, int]]], external: bool
) -> None:
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    paths, distinct = [], {}
    for i, graph in enumerate(graphs):
        tensors = {f"t{j}": np.full(size, value, np.float32) for j, (value, size) in enumerate(graph)}
        distinct.update({(value, size): 4 * size for value, size in graph if size >= 256})
        paths.append(source / f"{i}.onnx")
        _graph(paths[-1], tensors)
        if external:
            model = onnx.load(paths[-1])
            onnx.save(model, paths[-1], save_as_external_data=True, location=f"{i}.data", size_threshold=1000)
    share_weights(paths, target, "all.data")
    for path in paths:
        before, after = _tensors(path), _tensors(target / path.name)
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)
        onnx.checker.check_model(str(target / path.name))
    stored = (target / "all.data").stat().st_size
    assert stored <= sum(distinct.values()) + 64 * len(distinct) + (1500 * 4 if external else 0)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    _graph(tmp_path / "source" / "a.onnx", {"t": np.ones(1000, np.float32)})
    (tmp_path / "all.data").write_text("mine")
    with pytest.raises(FileExistsError):
        share_weights([tmp_path / "source" / "a.onnx"], tmp_path, "all.data")
    assert (tmp_path / "all.data").read_text() == "mine"


def test_a_table_that_no_graph_has_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    _graph(tmp_path / "source" / "a.onnx", {"t": np.ones(1000, np.float32)})
    with pytest.raises(BundleError, match="lack 1 of the vocabulary's tables"):
        share_weights([tmp_path / "source" / "a.onnx"], tmp_path, "all.data", tables={bytes(32): torch.ones(3, 4)})
