"""Importing the runtime costs nothing: what is heavy is loaded by what needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bundle import TinyBundle, random_poses

from signet_runtime import write_keypoints

HEAVY = [
    "torch",
    "cv2",
    "av",
    "ai_edge_litert",
    "kornia_rs",
    "rtmlib",
    "onnxruntime",
    "optimum",
    "transformers",
    "scipy",
]
OTHERS = ["signet_train", "signet_export"]  # packages that stand on the runtime


def loaded_after(code: str) -> set[str]:
    probe = f"import json, sys\n{code}\nprint(json.dumps([n for n in {HEAVY + OTHERS} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import signet_runtime") == set()
    assert loaded_after("import signet_runtime; import numpy; import cv2") == {"cv2"}  # the probe itself sees


def test_no_module_loads_anything_heavy() -> None:
    everything = (
        "import importlib, pkgutil, signet_runtime\n"
        "for module in pkgutil.walk_packages(signet_runtime.__path__, 'signet_runtime.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert 'signet_runtime.translator' in sys.modules and 'signet_runtime.pose.sequence' in sys.modules"
    )
    assert loaded_after(everything) == set()


def test_text_of_keypoints_needs_onnx_runtime_alone(tiny: TinyBundle, tmp_path: Path) -> None:
    write_keypoints(tmp_path / "clip.npz", random_poses(0))

    def translating(*options: str) -> set[str]:
        arguments = [str(tmp_path / "clip.npz"), "--bundle", str(tiny.path), *options]
        run = f"from signet_runtime.commands.translate import main\ntry:\n    main({arguments})\n"
        run += "except SystemExit as done:\n"
        return loaded_after(run + "    assert not done.code, done.code")

    assert translating() == {"onnxruntime"}
    assert {"torch", "transformers", "optimum"} <= translating("--generation", "optimum")


def test_every_public_name_can_be_had() -> None:
    import signet_runtime

    for name in signet_runtime.__all__:
        assert getattr(signet_runtime, name).__name__ == name
        assert name in dir(signet_runtime)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        signet_runtime.Nonsense  # noqa: B018
