"""What holds for every command: a version, summaries that are whole, and help where no extra is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import signet_export.cli
import signet_train.cli
from signet_runtime.installation import how_to_install

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"signet-train": signet_train.cli.main, "signet-export": signet_export.cli.main}


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_every_command_tells_its_version(group: click.Group) -> None:
    assert "version" in CliRunner().invoke(group, ["--version"]).stdout


def test_summaries_are_whole() -> None:
    group = GROUPS["signet-train"]
    told = CliRunner().invoke(group, ["--help"]).stdout
    listed = " ".join(told.partition("Commands:")[2].split())
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").partition("\n\n")[0].split())
        first_sentence = re.match(r"(.+?)\.(?:\s|$)", summary)
        assert first_sentence and first_sentence[1] in listed, name
    assert "..." not in listed


def test_help_needs_no_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[<>=\[]", requirement)[0] for extra in extras.values() for requirement in extra}
    modules = {name.replace("-", "_") for name in names} | {"cv2", "iso639", "torch", "optimum"} - {"signet_slt"}
    for arguments in (["--help"], ["init", "--help"], ["evaluate", "--help"], ["manifest", "--help"]):
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({sorted(modules)}))\n"
            f"sys.argv = ['signet-train', *{arguments}]\n"
            "from signet_train.__main__ import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout.startswith("Usage: "), done.stderr


def test_what_is_advised_can_be_done() -> None:
    """No registry has the package: nothing that is printed tells people to install it by its name."""
    for package in ("signet_runtime", "signet_train", "export"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"install '?signet-slt\[", path.read_text(encoding="utf-8")), path
    how = how_to_install("train")
    place = re.search(r"'([^']+)\[train\]'", how)
    assert place and Path(place[1]).exists(), how


def test_the_build_and_the_project_say_the_same_pythons() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    setup = (ROOT / "setup.py").read_text()
    (low,), (high,) = (re.findall(rf"{sign}3\.(\d+)", project["requires-python"]) for sign in (">=", "<"))
    assert f"LOWEST, HIGHEST = (3, {low}), (3, {int(high) - 1})" in setup
    assert (
        f"SUPPORTED = {' '.join(f'3.{minor}' for minor in range(int(low), int(high)))}\n"
        in (ROOT / "Makefile").read_text()
    )


@pytest.mark.parametrize(("version", "refused"), [((3, 10), True), ((3, 15), True), ((3, 11), False), ((3, 14), False)])
def test_a_python_that_is_too_old_or_new_is_said_by_the_build(version: tuple[int, int], refused: bool) -> None:
    code = (
        "import sys, types; sys.modules['setuptools'] = types.SimpleNamespace(setup=lambda: print('built'));"
        f"sys.version_info = {version}; exec(open({str(ROOT / 'setup.py')!r}).read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode == 1, "built" in done.stdout) == (refused, not refused)
    if refused:
        assert f"needs Python 3.11 to 3.14, and this is {version[0]}.{version[1]}" in done.stderr
