"""Every kind of engine is one module; the translator takes what it gives and knows no other way."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tiny_bundle import ROUTING, TinyBundle, random_poses

from signet_runtime import bundle as bundle_module
from signet_runtime import translator
from signet_runtime.bundle import ENGINE_CHOICES, ENGINE_KINDS, Bundle, Engine, EngineKind
from signet_runtime.commands.translate import main
from signet_runtime.engines.encoder import Encoded, HostEncoded
from signet_runtime.engines.load import LoadedEngine
from signet_runtime.generation import DecoderBackend
from signet_runtime.generation.hypothesis import Hypothesis
from signet_runtime.regions import Regions
from signet_runtime.translator import Translator


@pytest.mark.parametrize("kind", ENGINE_KINDS)
def test_every_kind_has_a_loader(kind: str) -> None:
    module = importlib.import_module(f"signet_runtime.engines.{ENGINE_KINDS[kind].module}")
    assert list(inspect.signature(module.load).parameters) == ["bundle", "engine", "device", "generation"]


def test_the_command_offers_what_the_manifest_may_have() -> None:
    (option,) = (parameter for parameter in main.params if parameter.name == "engine")
    assert tuple(option.type.choices) == ENGINE_CHOICES == ("onnx", "trt")  # type: ignore[attr-defined]


class Constant:
    """Encodes whatever it is given as the same, and decodes that to how often it was asked."""

    max_clips, can_stream = 1, False

    def __init__(self) -> None:
        self.encoded = 0
        self.closed = False
        self.max_new_tokens = 3

    def __call__(self, clips: list[Regions]) -> Encoded:
        self.encoded += len(clips)
        return HostEncoded(np.zeros((1, 1, 1), np.float32), np.ones((1, 1), np.int64), np.array([ROUTING], np.float32))

    def generate(
        self, encoded: Encoded, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[list[int]]:
        return [[self.encoded]]

    reentrant = False
    gives_attention = False

    def search(
        self, encoded: Encoded, num_beams: int | None = None, *, n_best: int = 1, attention: bool = False
    ) -> list[list[Hypothesis]]:
        return [[Hypothesis([self.encoded], [0.0], 0.0)]]

    def pieces(self, tokens: list[int]) -> list[str]:
        return [str(token) for token in tokens]

    def text(self, tokens: list[list[int]]) -> list[str]:
        return [str(row) for row in tokens]

    def close(self) -> None:
        self.closed = True


def test_another_engine_is_one_module_and_its_kind(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Constant()
    asked: list[tuple[str, str | None]] = []

    def load(bundle: Bundle, engine: Engine, device: str, generation: DecoderBackend | None) -> LoadedEngine:
        asked.append((device, generation))
        return LoadedEngine(made, made, made.close)

    module = ModuleType("signet_runtime.engines.abacus")
    monkeypatch.setattr(module, "load", load, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(bundle_module.ENGINE_KINDS, "abacus", EngineKind("beads", "abacus", portable=True))
    bundle = Bundle.load(tiny.path)
    engine = bundle.engine().model_copy(update={"kind": "abacus"})
    manifest = bundle.manifest.model_copy(update={"engines": [*bundle.manifest.engines, engine]})
    with Translator(Bundle(bundle.path, manifest), engine="beads", generation="fast") as translator:
        texts = [translation.text for translation in translator.translate_poses([random_poses(s) for s in (0, 1)])]
        assert not made.closed
    assert asked == [("cpu", "fast")]
    assert texts == ["[1]", "[2]"]  # one clip at a time, as it takes them
    assert made.closed


def test_the_translator_names_no_engine() -> None:
    tree = ast.parse(Path(translator.__file__).read_text())
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    told = [name for name in names if {"onnx", "tensorrt", "trt"} & set(name.lower().replace(".", " ").split())]
    assert told == []
