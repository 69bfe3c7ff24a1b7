"""`signet-doctor`: a broken installation gets a report and a way out, whatever is broken."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_bundle import TinyBundle

from signet_runtime import bundle as bundle_module
from signet_runtime.commands import doctor
from signet_runtime.installation import how_to_install


def test_a_working_installation(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle_module, "demo_bundle_path", lambda: tiny.path)
    monkeypatch.setenv("SIGNET_RTMPOSE", str(tmp_path))
    result = CliRunner().invoke(doctor.main)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("signet-translate can translate a video here.\n")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if line.startswith("  ")}
    assert rows["CPUExecutionProvider"] == "ok"
    assert rows["mediapipe"].startswith("ok")
    assert rows["rtmpose-balanced"].startswith("NO")
    assert str(tmp_path) in rows["rtmpose-balanced"]  # where it looked
    assert rows["translates"] == "ok"
    import onnxruntime

    assert rows["onnxruntime"] == onnxruntime.__version__


def test_a_damaged_demonstration(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle_copy / "encoder.onnx").unlink()
    monkeypatch.setattr(bundle_module, "demo_bundle_path", lambda: bundle_copy)
    result = CliRunner().invoke(doctor.main)
    assert result.exit_code == 5
    assert "encoder.onnx: missing from the bundle" in result.stdout
    assert "fix: pip install --force-reinstall signet-slt" in result.stdout
    assert result.stdout.endswith("signet-translate cannot translate a video here.\n")


@pytest.mark.parametrize(
    "missing",
    [
        ["onnxruntime"],
        ["ai_edge_litert", "rtmlib"],
        ["kornia_rs", "rtmlib"],
        ["numpy"],
        ["sentencepiece", "av", "pydantic", "cv2"],
    ],
)
def test_a_report_whatever_is_missing(missing: list[str]) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
    code += "from signet_runtime.commands.doctor import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert "To fix" in done.stdout
    assert "fix: " in done.stdout
    assert any(name in done.stdout.split("To fix")[1] for name in [*missing, "pose estimator", "ONNX Runtime"])
    assert "cannot translate a video here" in done.stdout


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if they had not been installed."""
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in packages else real(name))
    for package in packages:
        monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)  # type: ignore[arg-type]


@pytest.fixture
def whole(tiny: TinyBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "demo_bundle_path", lambda: tiny.path)


@pytest.mark.usefixtures("whole")
def test_an_edge_install_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch", "transformers", "optimum", "optimum-onnx")
    result = CliRunner().invoke(doctor.main)
    assert result.exit_code == 0, result.output
    assert "To fix" not in result.stdout
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    assert "signet-slt[optimum]" in rows["torch"]
    assert rows["translates"].endswith("ok")


@pytest.mark.usefixtures("whole")
def test_a_reference_that_is_there_and_broken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]
    result = CliRunner().invoke(doctor.main)
    assert result.exit_code == 0, result.output  # translating does not need it
    assert "torch cannot be loaded" in result.stdout.split("To fix")[1]


@pytest.mark.usefixtures("whole")
def test_an_install_without_pose_estimators(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ai-edge-litert", "rtmlib", "cv2")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)  # type: ignore[arg-type]
    result = CliRunner().invoke(doctor.main)
    assert result.exit_code == 5
    assert f"only keypoint files can be translated\n    fix: {how_to_install('edge')}" in result.stdout
    assert "OpenCV" not in result.stdout  # nobody needs it


def test_two_onnxruntimes() -> None:
    ((problem, fix),) = doctor._onnxruntime_clash({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    assert "overwrite each other" in problem
    assert fix == ("pip uninstall -y onnxruntime onnxruntime-gpu && pip install --no-deps onnxruntime-gpu==1.31.1")
    assert doctor._onnxruntime_clash({"onnxruntime": "1.32.0"}) == []
    assert doctor._onnxruntime_clash({"onnxruntime-gpu": "1.31.1"}) == []


def test_several_opencvs() -> None:
    same = {"opencv-python": "4.11.0.86", "opencv-contrib-python": "4.11.0.86", "numpy": "1.26.4"}
    assert doctor._opencv_versions(same) == []
    ((problem, fix),) = doctor._opencv_versions({**same, "opencv-python-headless": "4.9.0.80"})
    assert "opencv-python-headless 4.9.0.80" in problem
    assert fix.endswith("pip install opencv-contrib-python==4.11.0.86")


def test_opencv_without_libgl(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(importlib, "import_module", broken)
    ((problem, fix),) = doctor._opencv_import({"rtmlib": "0.0.16"})
    assert "libGL.so.1" in problem
    assert "apt-get install libgl1" in fix


def test_a_provider_that_is_listed_but_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    from signet_runtime.engines import session

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(session, "provider_problem", lambda name: None if "CPU" in name else "CUDA: no libcudnn.so.9")
    assert doctor._providers() == (
        True,
        [("CUDA: no libcudnn.so.9", "the README on signet-slt[gpu] says which libraries it needs")],
    )


def test_a_gpu_that_lies_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    works, ((problem, _),) = doctor._providers()
    assert works
    assert "NVIDIA GPU that this ONNX Runtime cannot use" in problem
