"""The table of CONTRIBUTING.md is true: what it says is all that an addition takes."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tiny_bundle import random_poses

from signet_runtime import write_keypoints
from signet_runtime.commands.translate import main as translate
from signet_train.data.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]


def rows() -> dict[str, tuple[list[str], str]]:
    """Of every row of the table: what is added -> the files that it takes, and what keeps the row true."""
    found = {}
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| a new ", "| --- ")):
            added, files, kept = (cell.strip() for cell in line.strip("|").split("|"))
            found[added.split(" (")[0]] = re.findall(r"`((?!tests/)[\w./]+\.(?:py|md|toml))`", files), kept
    return found


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program that adds a row to a table before the command is built, as a change to the table would."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_every_row_names_files_that_are_there_and_what_keeps_it_true() -> None:
    found = rows()
    wanted = {"pose estimator", "corpus", "output format", "engine", "decoding option", "region"}
    wanted |= {"page of the manual", "figure of the manual"}
    assert set(found) == wanted
    for added, (files, kept) in found.items():
        there = [file for file in files if "NAME" not in file]
        assert there and all((ROOT / file).is_file() for file in there), added
        tests = re.findall(r"`(tests/[\w./]+\.py)`", kept)
        assert all((ROOT / test).is_file() for test in tests), added
        counts = re.findall(r"(\d+) files", kept)
        assert tests or counts, added
        assert all(int(count) == len(files) for count in counts), added


@pytest.mark.parametrize("added", ["pose estimator", "corpus", "output format", "engine"])
def test_an_addition_is_one_package(added: str) -> None:
    files = [file for file in rows()[added][0] if file.endswith(".py")]
    assert len({file.split("/")[0] for file in files}) == 1


def test_an_output_format_is_a_file_and_a_row(tmp_path: Path) -> None:
    write_keypoints(tmp_path / "clip.npz", random_poses(0))
    code = """
import sys
from signet_runtime.outputs.formats import FORMATS

class Shouted:
    one_input = False

    def add(self, source, translation):
        return f"<{translation.language}>\\n"

    def fail(self, source, message, *, alone):
        return f"<failed alone={alone}>\\n"

    def end(self):
        return "<end>\\n"

FORMATS["shouted"] = Shouted
from signet_runtime.commands.translate import main
main(sys.argv[1:])
"""
    clip, nothing = str(tmp_path / "clip.npz"), str(tmp_path / "nothing.npz")
    done = run(code, "--format", "shouted", clip, nothing)
    assert (done.returncode, done.stdout) == (3, "<mul>\n<failed alone=False>\n<end>\n"), done.stderr
    assert "--format [text|json|jsonl|srt|vtt|tsv|eaf|shouted]" in run(code, "--help").stdout


def test_a_corpus_is_a_module_and_a_row(tmp_path: Path) -> None:
    code = """
import sys
from types import ModuleType
from signet_train.data.datasets import DATASETS, Dataset
from signet_train.data.manifest import Row

module = ModuleType("signet_train.data.datasets.mine")
row = Row(id="one", split="train", poses="one.npz", text="hello", language="en", sign_language="ase")
module.read = lambda root: [row]
sys.modules[module.__name__] = module
DATASETS["mycorpus"] = Dataset("mine", "mycorpus")
from signet_train.cli import main
main(sys.argv[1:])
"""
    done = run(code, "manifest", "mycorpus", str(tmp_path), "--out", str(tmp_path / "mine.jsonl"))
    assert done.returncode == 0, done.stderr
    (row,) = read_manifest(tmp_path / "mine.jsonl").rows
    assert (row.id, row.corpus) == ("one", "mycorpus")
    assert "mycorpus" in run(code, "manifest", "--help").stdout


def test_an_engine_is_a_module_and_a_row() -> None:
    from signet_runtime.bundle import ENGINE_CHOICES, ENGINE_KINDS

    for kind in ENGINE_KINDS.values():
        assert callable(importlib.import_module(f"signet_runtime.engines.{kind.module}").load)
    (choice,) = (p.type for p in translate.params if p.name == "engine")
    assert isinstance(choice, click.Choice) and tuple(choice.choices) == ENGINE_CHOICES
    # Whatever else tells engines apart would have to learn of a new one.
    package = ROOT / "signet_runtime"
    elsewhere = [path for path in package.rglob("*.py") if path.parent.name != "engines" and path.name != "bundle.py"]
    named = {
        f"{path.relative_to(package)}: {node.value}"
        for path in elsewhere
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for node in ast.walk(node)
        if isinstance(node, ast.Constant) and node.value in {*ENGINE_KINDS, *ENGINE_CHOICES}
    }
    assert named == set()
