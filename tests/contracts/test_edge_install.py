"""What an edge install pulls in: no PyTorch, and nothing that would bring it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from benchmarks.install_size import PROJECT, files, pulled_in, size

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = {"torch", "transformers", "optimum", "optimum-onnx", "onnx", "tokenizers", "safetensors"}
ESTIMATORS = {"ai-edge-litert", "kornia-rs", "pose-format"}
RTMPOSE = {"rtmlib", "opencv-python", "opencv-contrib-python"}
# What some builds of PyTorch bring for a GPU, in versions of their own: constraints.txt leaves open which build it is.
OF_A_BUILD = ("nvidia-", "cuda-", "triton")


def installs(*extras: str) -> set[str]:
    return pulled_in(PROJECT, frozenset(extras))


def test_each_install_has_what_it_is_for() -> None:
    assert not installs("edge") & (FRAMEWORKS | RTMPOSE)
    assert installs("rtmpose") >= RTMPOSE
    assert installs("edge") >= ESTIMATORS | {"onnxruntime", "sentencepiece", "av"}
    assert not installs() & (FRAMEWORKS | ESTIMATORS)
    assert installs("edge", "optimum") >= FRAMEWORKS - {"onnx"}
    assert installs("train") >= installs("edge", "optimum", "rtmpose") | {"onnx"}


def test_sizes_grow_with_what_is_installed() -> None:
    base, edge, train = (size(set().union(*map(files, installs(*extras)))) for extras in ((), ("edge",), ("train",)))
    assert 1e6 < base < edge < train


@pytest.mark.parametrize("extra", ["", "edge", "rtmpose", "optimum", "train", "dev"])
def test_every_package_is_pinned(extra: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-").replace(".", "-") for line in lines if "==" in line}
    # setuptools comes with an environment, or with what builds the project.
    found = {name for name in installs(*filter(None, [extra])) if not name.startswith(OF_A_BUILD)}
    assert found - {PROJECT, "setuptools"} <= pinned


def test_commands_name_what_is_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in scripts.values():
        module, name = target.split(":")
        assert callable(getattr(__import__(module, fromlist=[name]), name))
