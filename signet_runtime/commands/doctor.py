"""`signet-doctor`: what is installed, what really runs, and how to fix what does not.

Everything is tried, not looked up, and nothing here may fail: a broken installation is what it is for. So
every import of another package is inside a check that reports whatever is raised.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import TYPE_CHECKING

import click

from signet_runtime.errors import ExitCode, one_line
from signet_runtime.installation import how_to_install

if TYPE_CHECKING:
    from signet_runtime.pose.estimators import EstimatorRow

_REINSTALL = "pip install --force-reinstall {}, in the version that signet-slt asks for"

# (a problem, what to do about it)
Problem = tuple[str, str]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="signet-slt")
def main() -> None:
    """Say what is installed, what really runs, and how to fix what does not.

    Exit code 0 when signet-translate can translate a video here, 5 when it cannot.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)  # what matters is in the report
        try:
            fatal, problems = _examine()
        finally:
            logging.disable(logging.NOTSET)
    if problems or fatal:
        _heading("To fix")
        for problem, fix in [*fatal, *problems]:
            click.echo(f"  - {problem}\n    fix: {fix}")
    click.echo("")
    if fatal:
        click.echo("signet-translate cannot translate a video here.")
        sys.exit(ExitCode.UNAVAILABLE)
    click.echo("signet-translate can translate a video here.")


def _examine() -> tuple[list[Problem], list[Problem]]:
    """Print what is found; return the problems that stop the main job, and the others."""
    table = _estimator_table()
    of_pose = list(dict.fromkeys(row.package for row in table.values()))
    packages = _packages(of_pose)
    installed = {name: version for name in packages if (version := _version(name))}
    _heading("Installed")
    _row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in packages:
        if name in installed or name in ("signet-slt", "onnxruntime", *of_pose):
            _row(name, installed.get(name, "-"))
    problems = [*_onnxruntime_clash(installed), *_opencv_versions(installed)]
    fatal: list[Problem] = []

    _heading("Execution providers, as a session loads them")
    works, advice = _providers()
    problems += advice
    if not works:
        fatal.append(("ONNX Runtime does not run on the CPU", "pip install --force-reinstall onnxruntime"))

    _heading("Video and pose")
    fatal += _imports("av", "pip install --force-reinstall av")
    problems += _opencv_import(installed)
    variables = dict.fromkeys(row.weights_variable for row in table.values() if row.weights_variable)
    for name in ("SIGNET_OFFLINE", *variables):
        _row(name, os.environ.get(name, "not set"))
    if not _pose_estimators():
        none_there = bool(table) and installed.keys().isdisjoint(of_pose)
        fix = how_to_install("edge") if none_there else "see above for each"
        fatal.append(("no pose estimator can run, so only keypoint files can be translated", fix))

    _heading("Text decoder")
    fatal += _imports("sentencepiece", _REINSTALL.format("sentencepiece"))
    problems += _reference(installed)

    _heading("Models by name")
    problems += _models()

    _heading("Demonstration bundle")
    fatal += _demonstration()
    return fatal, problems


def _packages(of_pose: Iterable[str]) -> tuple[str, ...]:
    """Return what to look for, with the distributions that pose estimators run on among the others."""
    return (
        "signet-slt",
        "numpy",
        "torch",
        "onnxruntime",
        "onnxruntime-gpu",
        "optimum",
        "optimum-onnx",
        "transformers",
        "sentencepiece",
        "pydantic",
        "av",
        *of_pose,
        "opencv-python",
        "opencv-contrib-python",
        "opencv-python-headless",
        "opencv-contrib-python-headless",
        "pose-format",
        "tensorrt",
        "tensorrt-rtx-cu13-libs",
        "tensorrt-rtx-cu13-bindings",
    )


def _onnxruntime_clash(installed: dict[str, str]) -> list[Problem]:
    if not {"onnxruntime", "onnxruntime-gpu"} <= installed.keys():
        return []
    return [
        (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files, so that CUDA "
            "may silently be gone (rtmlib and optimum-onnx ask for the first)",
            "pip uninstall -y onnxruntime onnxruntime-gpu && "
            f"pip install --no-deps onnxruntime-gpu=={installed['onnxruntime-gpu']}",
        )
    ]


def _opencv_versions(installed: dict[str, str]) -> list[Problem]:
    found = {name: version for name, version in installed.items() if name.startswith("opencv-")}
    if len(set(found.values())) < 2:
        return []  # several of one version overwrite each other with the same files
    listed = ", ".join(f"{name} {version}" for name, version in found.items())
    newest = max(found.values(), key=lambda version: [int(part) for part in version.split(".") if part.isdecimal()])
    return [
        (
            f"several OpenCVs of different versions overwrite each other's files: {listed}",
            f"pip uninstall -y {' '.join(found)} && pip install opencv-contrib-python=={newest}",
        )
    ]


def _providers() -> tuple[bool, list[Problem]]:
    """Print whether every provider that was compiled in loads; whether the CPU's does, and what is wrong."""
    try:
        import onnxruntime

        from signet_runtime.engines.session import provider_problem

        # Azure's sends the model elsewhere: nothing for this package.
        names = [name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"]
        problems = {name: provider_problem(name) for name in names}
    except Exception as error:
        _row("onnxruntime", f"NO  {one_line(error)}")
        return False, []
    for name, problem in problems.items():
        _row(name, f"NO  {problem}" if problem else "ok")
    advice: list[Problem] = [
        (problem, "the README on signet-slt[gpu] says which libraries it needs")
        for problem in problems.values()
        if problem
    ]
    if shutil.which("nvidia-smi") and "CUDAExecutionProvider" not in names:
        advice.append(
            (
                "there is an NVIDIA GPU that this ONNX Runtime cannot use",
                "the GPU section of the README: signet-slt[gpu]",
            )
        )
    return problems.get("CPUExecutionProvider", "not there") is None, advice


def _opencv_import(installed: dict[str, str]) -> list[Problem]:
    table = _estimator_table()
    if table and not any(row.needs_opencv and row.package in installed for row in table.values()):
        return []  # nobody here needs it
    problem = _trouble(lambda: importlib.import_module("cv2"))
    _row("cv2", f"NO  {problem}" if problem else "ok")
    if problem is None:
        return []
    if "libGL" in problem or "libgthread" in problem or "libglib" in problem:
        fix = "apt-get install libgl1 libglib2.0-0, or replace opencv-contrib-python by opencv-contrib-python-headless"
    else:
        fix = "pip install --force-reinstall opencv-contrib-python"
    return [(f"OpenCV cannot be loaded, and RTMPose needs it: {problem}", fix)]


def _imports(module: str, fix: str) -> list[Problem]:
    problem = _trouble(lambda: importlib.import_module(module))
    _row(module, f"NO  {problem}" if problem else "ok")
    return [(f"{module} cannot be loaded: {problem}", fix)] if problem else []


def _reference(installed: dict[str, str]) -> list[Problem]:
    """Print whether `--generation optimum` can run. It need not be there; but what is there must work."""
    problems: list[Problem] = []
    for module, package in (("torch", "torch"), ("optimum.onnxruntime", "optimum-onnx")):
        if package in installed:
            problems += _imports(module, _REINSTALL.format(package))
        else:
            _row(module, "-   signet-slt[optimum] adds it, for --generation optimum and TensorRT engines")
    return problems


def _pose_estimators() -> int:
    """Print whether each estimator starts, and with which weights, downloading nothing; return how many start."""
    try:
        from signet_runtime.pose.estimators import ESTIMATORS
    except Exception as error:
        _row("estimators", f"NO  {one_line(error)}")
        return 0
    working = 0
    for name in ESTIMATORS:
        try:
            _row(name, f"ok  {_start_estimator(name)}")
            working += 1
        except Exception as error:
            _row(name, f"NO  {one_line(error)}")
    return working


def _start_estimator(name: str) -> str:
    """Start an estimator, and return where its weights are."""
    from signet_runtime.pose.estimators import ESTIMATORS, load_estimator

    with contextlib.redirect_stdout(sys.stderr):
        load_estimator(name, name, offline=True).close()
        return ESTIMATORS[name].describe_weights(name)


def _estimator_table() -> dict[str, EstimatorRow]:
    """Return the table of pose estimators, or nothing where numpy is missing: `_pose_estimators` then says so."""
    try:
        from signet_runtime.pose.estimators import ESTIMATORS
    except Exception:
        return {}
    return ESTIMATORS


def _demonstration() -> list[Problem]:
    """Print whether the bundle that comes with the package translates."""

    def translate() -> None:
        import numpy as np

        from signet_runtime.pose.sequence import PoseSequence
        from signet_runtime.translator import Translator

        anyone = np.linspace(0.2, 0.8, 133 * 2, dtype=np.float32).reshape(1, 133, 2).repeat(8, axis=0)
        poses = PoseSequence(anyone, np.ones((8, 133), np.float32), 25.0, (640, 480), "signet-doctor")
        Translator.from_bundle(verify=True).translate(poses)

    problem = _trouble(translate)
    _row("translates", f"NO  {problem}" if problem else "ok")
    if problem is None:
        return []
    return [(f"the demonstration does not run: {problem}", "pip install --force-reinstall signet-slt")]


def _models() -> list[Problem]:
    """Print which models are here, and whether others can be fetched."""
    try:
        from signet_runtime.models.home import Home

        home = Home.default()
        here = [model.name for model in home.all_installed()]
    except Exception as error:
        _row("models", f"NO  {one_line(error)}")
        return [(f"models by name cannot be looked up: {one_line(error)}", _REINSTALL.format("pydantic"))]
    _row("directory", str(home.path))
    _row("here", ", ".join(here) or "none; signet-models list tells what can be had")
    for package in ("huggingface_hub", "zstandard"):
        if _version(package) is None:
            _row(package, "-   signet-slt[hub] adds it, to fetch models by name")
        else:
            _row(package, _trouble(functools.partial(importlib.import_module, package)) or "ok")
    return []


def _trouble(attempt: Callable[[], object]) -> str | None:
    """Return what ``attempt`` raised, in one line; None when it worked."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            attempt()
    except Exception as error:
        return one_line(error)
    return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _heading(text: str) -> None:
    click.echo(f"\n{text}")


def _row(name: str, value: str) -> None:
    click.echo(f"  {name:<24} {value}")


if __name__ == "__main__":
    main()
