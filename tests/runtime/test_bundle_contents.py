"""A bundle is what its manifest says and nothing else: no other file, no code, no operator of a foreign library."""

from __future__ import annotations

import json
import os
import random
import shutil
import string
import threading
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper

from signet_runtime.bundle import Bundle, demo_bundle_path, read_manifest, write_manifest
from signet_runtime.errors import BundleError, EngineError
from signet_runtime.onnx_file import references
from signet_runtime.remembered import is_trusted
from signet_runtime.translator import Translator

SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")


def some_name(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randrange(1, 12)))


def seal(bundle: Path) -> None:
    """List everything again, as whoever forges a bundle would."""
    write_manifest(bundle, read_manifest(bundle))


def test_the_demo_loads_as_it_was_written() -> None:
    manifest = read_manifest(demo_bundle_path())
    assert {path.name for path in demo_bundle_path().iterdir()} == {*manifest.files, "signet.json"}
    assert Bundle.load(verify=True).manifest == manifest


def test_what_is_not_listed_is_refused(bundle_copy: Path) -> None:
    rng = random.Random(os.urandom(8))
    names = ["chat_template.jinja", "added_tokens.json", "tokenizer.json", "modeling.py", "weights.bin", "README"]
    names += [f"{some_name(rng)}.{some_name(rng)}", some_name(rng) + "x", f"{some_name(rng)}/{some_name(rng)}.json"]
    for name in names:
        path = bundle_copy / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        if name == "README":
            Bundle.load(bundle_copy)
        else:
            with pytest.raises(BundleError, match=rf"{name}: lies in the bundle, and its manifest does not list it"):
                Bundle.load(bundle_copy)
        path.unlink()


def test_documents_and_what_hubs_leave_may_lie_there(bundle_copy: Path) -> None:
    for name in ("README.md", "LICENSE", "LICENCE.txt", ".gitattributes", ".DS_Store", "signet.json.minisig"):
        (bundle_copy / name).write_text("x")
    (bundle_copy / ".cache").mkdir()
    (bundle_copy / ".cache" / "download").touch()
    Bundle.load(bundle_copy, verify=True)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "loop", "out", "folder out"])
def test_only_files_are_in_a_bundle(bundle_copy: Path, tmp_path: Path, kind: str, listed: bool) -> None:
    path = bundle_copy / ("special_tokens_map.json" if listed else "other.json")
    content = path.read_text() if listed else "{}"
    path.unlink(missing_ok=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text(content)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        target = {"loop": path, "out": tmp_path / "outside" / "file", "folder out": tmp_path / "outside"}[kind]
        path.symlink_to(target)
    said: list[BaseException] = []

    def load() -> None:
        try:
            Bundle.load(bundle_copy)
        except BundleError as error:
            said.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(20)  # a pipe that is waited for would hold the suite
    assert said and str(path) in str(said[0])


def test_weights_that_are_not_listed_are_not_loaded(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(demo_bundle_path(), tmp_path / "bundle"))
    assert references(bundle / "decoder_model.onnx").files == {"decoder.onnx_data"}
    for location in (".hidden", "../outside", "a/../../outside", "/etc/hostname", "decoder.onnx_data/../.hidden"):
        model = onnx.load(bundle / "decoder_model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        (bundle / ".hidden").write_bytes((bundle / "decoder.onnx_data").read_bytes())
        (bundle / "decoder_model.onnx").write_bytes(model.SerializeToString())
        manifest = read_manifest(bundle)
        seal(bundle)
        listed = {name: record for name, record in read_manifest(bundle).files.items() if not name.startswith(".")}
        forged = json.loads((bundle / "signet.json").read_text())
        forged["files"] = {name: record.model_dump() for name, record in listed.items()}
        (bundle / "signet.json").write_text(json.dumps(forged))
        with pytest.raises(BundleError, match=r"decoder_model\.onnx: its weights are in .*does not list"):
            Bundle.load(bundle)
        assert manifest.name == "signet-demo"


def in_a_branch(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    branch = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("o", 1, [1])])
    condition = helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True])
    model.graph.node.append(helper.make_node("Constant", [], ["cond"], value=condition))
    model.graph.node.append(helper.make_node("If", ["cond"], ["p"], then_branch=branch, else_branch=branch))


def in_a_function(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("ours", "f", [], ["o"], [node], opsets))


PLACES: dict[str, Callable[[onnx.ModelProto, onnx.NodeProto], None]] = {
    "in the graph": lambda model, node: model.graph.node.append(node),
    "in a branch": in_a_branch,
    "in a function": in_a_function,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("operator", "domain"), [("Run", "somebody.elses"), ("EPContext", "com.microsoft"), ("PythonOp", "com.microsoft")]
)
def test_operators_of_others_are_refused(bundle_copy: Path, place: str, operator: str, domain: str) -> None:
    model = onnx.load(bundle_copy / "encoder.onnx")
    PLACES[place](model, helper.make_node(operator, [], ["o"], domain=domain))
    (bundle_copy / "encoder.onnx").write_bytes(model.SerializeToString())
    seal(bundle_copy)
    with pytest.raises(BundleError, match=rf"encoder\.onnx: takes operators .*: {domain}\.{operator}"):
        Bundle.load(bundle_copy)


def test_functions_of_the_model_itself_are_none_of_others(bundle_copy: Path) -> None:
    model = onnx.load(bundle_copy / "encoder.onnx")
    in_a_function(model, helper.make_node("Identity", ["i"], ["o"]))
    model.graph.node.append(helper.make_node("f", [], ["o"], domain="ours"))
    (bundle_copy / "encoder.onnx").write_bytes(model.SerializeToString())
    assert references(bundle_copy / "encoder.onnx").operators == frozenset()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("backend", ["fast", "optimum"])
def test_code_that_comes_along_is_never_asked_about(
    bundle_copy: Path, name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> str:
        pytest.fail("somebody was asked")

    monkeypatch.setattr("builtins.input", asked)
    path, trap = bundle_copy / name, bundle_copy.parent / "trap"
    content = json.loads(path.read_text())
    named = {"auto_map": {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.T", None]}}
    path.write_text(json.dumps(content | random.choice([named, {"deep": [{"er": named}]}])))
    (bundle_copy / "evil.py").write_text(f"open({str(trap)!r}, 'w')")
    seal(bundle_copy)
    with pytest.raises(BundleError, match=r"is code|names code of its own"):
        Translator(bundle_copy, generation=backend)
    (bundle_copy / "evil.py").unlink()
    seal(bundle_copy)
    with pytest.raises(BundleError, match=rf"{name}: names code of its own \(auto_map\)"):
        Translator(bundle_copy, generation=backend)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "model_type", "gpt2"),
        ("config.json", "model_type", ["mt5"]),
        ("tokenizer_config.json", "tokenizer_class", "TransfoXLTokenizer"),
    ],
)
def test_no_other_class_is_made(bundle_copy: Path, name: str, key: str, value: object) -> None:
    path = bundle_copy / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    seal(bundle_copy)
    with pytest.raises(BundleError, match=rf"{name}: its {key} is .*, and not mT5's"):
        Bundle.load(bundle_copy)


def test_engines_that_are_code_run_when_they_are_trusted(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from signet_runtime import remembered
    from signet_runtime.engines.tensorrt_model import load_model

    monkeypatch.setattr(remembered, "_trusted", set())
    rng = random.Random(os.urandom(8))
    names = ("encoder.engine", "decoder.engine", "decoder_with_past.engine")
    for name in names:
        (bundle_copy / name).write_bytes(rng.randbytes(40))
    build = {"version": "1.7.1.116", "target": "sm86", "profiles": {"frames": [1, 128, 512]}, "executed": False}
    parts = dict(zip(("encoder", "decoder", "decoder_with_past"), names, strict=True))
    engine = {"kind": "tensorrt-rtx", "precision": "fp32", "build": build, **parts}
    content = json.loads((bundle_copy / "signet.json").read_text())
    (bundle_copy / "signet.json").write_text(json.dumps(content | {"engines": [*content["engines"], engine]}))
    seal(bundle_copy)
    bundle = Bundle.load(bundle_copy)
    with pytest.raises(EngineError, match=r"its TensorRT engines are code, .*--trust-engines"):
        load_model(bundle, bundle.engine("trt"))
    bundle.trust_engines()
    monkeypatch.setattr(remembered, "_trusted", set())  # another process
    assert all(is_trusted(bundle.manifest.files[name].sha256) for name in names)
    assert not is_trusted(bundle.manifest.files["encoder.onnx"].sha256)
    with pytest.raises(EngineError) as raised:  # from here on it is the library that is not here, or refuses them
        load_model(bundle, bundle.engine("trt"))
    assert "trust" not in str(raised.value)
    (bundle_copy / names[1]).write_bytes(rng.randbytes(40))
    seal(bundle_copy)
    bundle = Bundle.load(bundle_copy)
    with pytest.raises(EngineError, match="--trust-engines"):  # those were others
        load_model(bundle, bundle.engine("trt"))


def test_without_a_home_what_was_checked_is_checked_again(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    assert Bundle.load(bundle_copy).manifest.name == "tiny"
    assert Bundle.load(bundle_copy).manifest.name == "tiny"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"generation": {"num_beams": 100_000, "max_new_tokens": 12}}, "beams 100000"),
        ({"generation": {"num_beams": 4, "max_new_tokens": 10**9}}, "tokens 1000000000"),
        ({"frame_rate": 1e-9}, "rate low"),
        ({"frame_rate": 1e300}, "rate high"),
        ({"max_frames": 10**12}, "frames 1000000000000"),
        ({"notice": "x" * 1_000_000}, "text length"),
        ({"name": "\ud800"}, "signet.json"),
        ({"name": "9" * 5000 + "0"}, "digits"),
    ],
)
def test_a_manifest_asks_for_no_more_than_there_is(bundle_copy: Path, change: dict[str, object], says: str) -> None:
    path = bundle_copy / "signet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=says):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "loop"])
def test_a_bundle_by_an_impossible_name(tmp_path: Path, name: str) -> None:
    if name == "loop":
        (tmp_path / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError):
        Bundle.load(tmp_path / name)
