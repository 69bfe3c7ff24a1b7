"""Where MediaPipe's model files come from. They are not ours to ship, and no other files would give the same keypoints.

They lie in the wheel of mediapipe 0.10.21 (Apache-2.0), which is the last one with models inside. It need not be
installed: its models are data for LiteRT.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from signet_runtime.commands.console import exit_on_error
from signet_runtime.errors import EngineError
from signet_runtime.models.home import Home
from signet_runtime.remembered import user_cache

logger = logging.getLogger("signet_runtime")

DIRECTORY_VARIABLE = "SIGNET_MEDIAPIPE_MODELS"

# File by file below mediapipe/modules of the wheel: SHA-256.
FILES = {
    "pose_detection/pose_detection.tflite": "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    "pose_landmark/pose_landmark_full.tflite": "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
    "hand_landmark/hand_landmark_full.tflite": "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
    "holistic_landmark/hand_recrop.tflite": "67d996ce96f9d36fe17d2693022c6da93168026ab2f028f9e2365398d8ac7d5d",
    "face_landmark/face_landmark_with_attention.tflite": (
        "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4"
    ),
    "face_detection/face_detection_short_range.tflite": (
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"
    ),
}

_WHEEL = "mediapipe==0.10.21"

# One wheel for every machine: only its data is used. pip asks for all of these where one is given.
_WHEEL_TAGS = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64")


def find_models(*, offline: bool) -> Mapping[str, Path]:
    """Return the model files by their name without suffix, each with its known SHA-256.

    From the directory that ``SIGNET_MEDIAPIPE_MODELS`` names (as in the wheel, or all files in one place), else from
    what `signet-models pull mediapipe` brought, else from our cache, else from an installed mediapipe, else fetched
    with pip and kept in the cache.

    Args:
        offline: never touch the network (``SIGNET_OFFLINE=1`` does the same).

    Raises:
        EngineError: they are nowhere, are other files than expected, or cannot be fetched or kept.
    """
    if named := os.environ.get(DIRECTORY_VARIABLE):
        try:
            return _checked(Path(named))
        except ValueError as problem:
            raise EngineError(f"{DIRECTORY_VARIABLE}: {problem}") from problem
    problems = []
    for place in (Home.default().directory("mediapipe") / "files", _cache(), *_installed()):
        try:
            return _checked(place)
        except ValueError as problem:
            if place.exists():
                problems.append(str(problem))
    if offline or os.environ.get("SIGNET_OFFLINE") == "1":
        raise EngineError(
            f"MediaPipe's models are not here and nothing is fetched while offline: "
            f"point {DIRECTORY_VARIABLE} to a directory with them" + "".join(f" ({problem})" for problem in problems)
        )
    _fetch()
    try:
        return _checked(_cache())
    except ValueError as problem:
        raise EngineError(f"the models just fetched are gone again: {problem}") from problem


def model_directory(models: Mapping[str, Path]) -> Path:
    """Return the directory that holds what `find_models` found."""
    return Path(os.path.commonpath([path.parent for path in models.values()]))


def _cache() -> Path:
    # Named by what it holds: another version of this package may want other files.
    contents = hashlib.sha256(json.dumps(FILES, sort_keys=True).encode()).hexdigest()
    return user_cache() / f"{_WHEEL.replace('==', '-')}-{contents[:8]}"


def _installed() -> Iterator[Path]:
    """Give the model directories of an installed mediapipe, which is not imported."""
    spec = importlib.util.find_spec("mediapipe")
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield Path(place) / "modules"


def _checked(place: Path) -> dict[str, Path]:
    """Return all files in a directory.

    Raises:
        ValueError: one is missing or is another one; which.
    """
    found = {}
    for name, expected in FILES.items():
        file = next((file for file in (place / name, place / Path(name).name) if file.is_file()), None)
        if file is None:
            raise ValueError(f"{place} has no {Path(name).name}")
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise ValueError(f"{file} is not the one of {_WHEEL} (its SHA-256 is another)")
        found[file.stem] = file
    return found


def _fetch() -> None:
    """Fetch the wheel and put its models into the cache, all at once or not at all."""
    target = _cache()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that renaming it is one step even where /tmp is another disk.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            unpacked = Path(scratch) / "models"
            _unpack(_download(Path(scratch)), unpacked)
            _put(unpacked, target)
    except OSError as error:
        raise EngineError(
            f"MediaPipe's models cannot be kept in {target} ({error.strerror or error}): "
            f"set XDG_CACHE_HOME, or point {DIRECTORY_VARIABLE} to a directory with them"
        ) from error


def _download(scratch: Path) -> Path:
    logger.info("fetching MediaPipe's models once (%s, 36 MB)", _WHEEL)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", *_WHEEL_TAGS, f"--dest={scratch}", _WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "ERROR" in line or "No module" in line), "pip says nothing")
        raise EngineError(
            f"MediaPipe's models cannot be fetched ({reason.strip()}): point {DIRECTORY_VARIABLE} to a directory with "
            f"them, or install {_WHEEL}"
        )
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_bytes(archive.read(f"mediapipe/modules/{name}"))
        _checked(target)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, KeyError, NotImplementedError) as error:
        raise EngineError(f"the fetched {wheel.name} is damaged or has no models: {error}") from error
    except ValueError as error:
        raise EngineError(f"the fetched {wheel.name} has other models: {error}") from error


def _put(unpacked: Path, target: Path) -> None:
    """Move a checked directory to where it is looked for; what another process put there meanwhile is as good."""
    try:
        unpacked.rename(target)
    except OSError:
        try:
            _checked(target)
        except ValueError:  # something is there and is not whole
            shutil.rmtree(target)
            unpacked.rename(target)


if __name__ == "__main__":
    # Once, while there is a network: `make demo` does it.
    with exit_on_error("signet_runtime.pose.models"):
        print(model_directory(find_models(offline=False)))
