"""Every block of commands in the pages is run, or says why not; and what is not run is at least understood."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
from blocks import PAGES, ROOT, Block, all_blocks, blocks, commands
from click.testing import CliRunner
from tiny_runs import words

from manual import reference
from signet_runtime.errors import EngineError
from signet_runtime.pose.models import find_models
from signet_train.checkpoint import demo_checkpoint_path

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
COMMANDS = reference.commands()
BLOCKS = all_blocks("bash")
# What a fence may say; commands are in bash and Python alone.
LANGUAGES = {"bash", "python", "text", "toml", "json", "math", "bibtex", ""}
OUR_OWN = re.compile(r"^\s*(signet-\w+ |pip |python -m|make |hf )", re.MULTILINE)


def trained(directory: Path) -> None:
    """A run, as `signet-train finetune` leaves it, a corpus of text and a manifest of keypoints."""
    (directory / "runs" / "finetune").mkdir(parents=True)
    shutil.copytree(demo_checkpoint_path(), directory / "runs" / "finetune" / "best")
    (directory / "data").mkdir()
    words(directory / "data" / "mine.parquet", train=4, dev=2)
    (directory / "corpus.txt").write_text("music and rain\nsun and moon\n", encoding="utf-8")
    (directory / "scores.txt").write_text("BLEU-4 1.0\n", encoding="utf-8")


PREPARED: dict[str, Callable[[Path], None]] = {"trained": trained}


def test_every_block_says_how_it_is_run() -> None:
    assert len(BLOCKS) > 40
    for block in all_blocks():
        assert block.language in LANGUAGES, f"{block}: {block.language!r} is no language of these pages"
        if block.language not in ("bash", "python"):
            assert not OUR_OWN.search(block.text), f"{block}: commands belong into a block of bash"
    for block in [*BLOCKS, *all_blocks("python")]:
        for comment in block.comments:
            assert re.match(r"(not )?run: \S", comment), f"{block}: {comment!r} says not how it is run"
        kind = block.how.partition(" ")[0]
        assert kind in {"suite", "slow", "tutorial", "in", "not"}, f"{block}: {block.how!r}"
        for file in block.files:
            assert (ROOT / file).is_file(), f"{block}: there is no {file}"
        if kind == "not":
            assert len((block.why_not or "").split()) > 2, f"{block}: why is it not run?"
        for text in block.left_out:
            assert any(text in command for command in commands(block.text)), f"{block}: has no {text!r} to leave out"
        assert set(block.prepared) <= set(PREPARED), block


def test_a_block_is_taken_for_what_its_comments_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- run: slow, with trained -->\n<!-- not run: `--camera`: no camera -->\n```bash\n"
        "signet-translate a \\\n  --camera 0\nsignet-translate b\n```\n\n```text\nb\n```\n\n"
        "<!-- not run: needs a GPU -->\n```bash\nx\n```\n\n```bash\ny\n```\nword\n```text\nz\n```\n"
    )
    first, second, third = blocks(page, "bash")
    assert (first.how, first.prepared, first.expected) == ("slow", ["trained"], "b\n")
    assert first.commands == "signet-translate b\n" and first.left_out == {"--camera": "no camera"}
    assert (second.how, second.why_not) == ("not", "needs a GPU")
    assert (third.how, third.expected, third.line) == ("suite", None, 18)


def called(block: Block) -> list[list[str]]:
    """The programs that a block calls, with their arguments: of pipes and lists of commands each one."""
    found = []
    for line in commands(block.text):
        words_ = shlex.split(line, comments=True)
        call: list[str] = []
        for word in [*words_, ";"]:
            if word in ("&&", "||", "|", "&", ";", "do", "done", "then"):
                found += [call] if call else []
                call = []
            elif word.endswith(";"):
                found.append([*call, word[:-1]])
                call = []
            elif word not in ("export",):
                call.append(word)
    return found


def parse(name: str, command: click.Command, arguments: list[str]) -> None:
    """Parse arguments as the command does, up to where it would look at files."""
    context = click.Context(command, info_name=name)
    if isinstance(command, click.Group):
        if arguments in (["--help"], ["--version"]):
            return
        if name == "signet-export" and arguments[0] not in command.commands:
            arguments = ["build", *arguments]  # as it does itself
        sub = command.get_command(context, arguments[0])
        assert sub is not None, f"{name} has no command {arguments[0]}"
        parse(f"{name} {arguments[0]}", sub, arguments[1:])
        return
    values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    assert not rest, f"{name}: {rest} is more than it takes"
    for parameter in command.params:
        if isinstance(parameter.type, click.Choice) and (value := values.get(parameter.name or "")):
            for given in value if isinstance(value, list | tuple) else [value]:
                parameter.type.convert(given, parameter, context)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_command_is_understood(block: Block) -> None:
    """Also of what is not run: commands and options exist, and so do make's targets, modules, extras and files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for call in called(block):
        name, *arguments = call
        if name in COMMANDS:
            arguments = [argument for argument in arguments if argument not in ("2>", ">", "log")]
            parse(name, COMMANDS[name], arguments)
            for argument in arguments:
                if argument.startswith(("signet_train/", "examples/")):
                    assert list(ROOT.glob(argument)), f"{block}: there is no {argument}"
        elif name == "make":
            for target in arguments:
                assert "=" in target or re.search(rf"^[\w -]*\b{target}\b[\w -]*:", makefile, re.MULTILINE), target
        elif name in ("python", ".venv/bin/python") and arguments[:1] == ["-m"]:
            module = arguments[1]
            ours = module.split(".")[0] in ("signet_runtime", "signet_train", "benchmarks", "manual", "signet_export")
            assert not ours or (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
            if module.startswith("benchmarks."):
                source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
                for option in [argument.split("=")[0] for argument in arguments[2:] if argument.startswith("--")]:
                    assert f'"{option}"' in source or f'"{option}/' in source, f"{block}: {module} has no {option}"
        elif name == "pip":
            for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
                assert set(extras.split(",")) <= set(project["optional-dependencies"]), extras


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.how.startswith("in ")], ids=str)
def test_a_test_that_is_named_runs_these_commands(block: Block) -> None:
    source = "".join((ROOT / file).read_text(encoding="utf-8") for file in block.files)
    for name, *arguments in called(replace(block, text=block.commands)):
        if name in ("signet-train", "signet-models"):
            assert re.search(rf"[\"']{arguments[0]}[\"' ]", source), f"{block}: {arguments[0]}"
        elif name in COMMANDS:
            assert name.removeprefix("signet-") in source or name.replace("-", "_") in source, f"{block}: {name}"
        elif arguments[:1] == ["-m"]:
            assert arguments[1] in source, f"{block}: {arguments[1]}"


@pytest.mark.parametrize(
    "line",
    [
        "signet-translate a.mp4 --formt json",
        "signet-translate a.mp4 --format docx",
        "signet-train pretrian a.toml --out a",
        "signet-export a --out b --target",
        "signet-models list | signet-doctor --quick",
    ],
)
def test_what_no_command_takes_is_noticed(line: str) -> None:
    block = Block("page.md", 1, "bash", f"{line}\n", (), None)
    with pytest.raises((click.UsageError, AssertionError)):
        for name, *arguments in called(block):
            parse(name, COMMANDS[name], arguments)


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[Block], str]:
    """Run a block in a directory with what the pages take for granted; what it writes to stdout."""
    try:
        find_models(offline=True)
    except EngineError:
        pytest.skip("the models of the pose estimator are not on this machine")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    place, programs = tmp_path / "here", tmp_path / "bin"
    place.mkdir()
    programs.mkdir()
    for name, target in SCRIPTS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {target.split(":")[0]} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    shutil.copytree(ROOT / "examples", place / "examples")
    shutil.copy(ROOT / "examples" / "ase_music.mp4", place / "video.mp4")
    shutil.copy(ROOT / "constraints.txt", place)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "export")]),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "SIGNET_OFFLINE": "1",
    }

    def run(block: Block) -> str:
        for name in block.prepared:
            PREPARED[name](place)
        command = ["bash", "-euo", "pipefail", "-c", block.commands]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        if block.expected is not None:
            assert done.stdout == block.expected, f"{block}: writes\n{done.stdout}"
        return done.stdout

    return run


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.how == "suite"], ids=str)
def test_what_is_run_always(block: Block, shell: Callable[[Block], str]) -> None:
    shell(block)


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.how == "slow"], ids=str)
def test_what_is_run_now_and_then(block: Block, shell: Callable[[Block], str]) -> None:
    shell(block)


def test_the_tutorial_has_its_blocks() -> None:
    """`make tutorial` runs these, and checks what the last one writes."""
    (page,) = {block.page for block in BLOCKS if block.how == "tutorial"}
    assert page == "docs/tutorial.md"
    assert sum(block.how == "tutorial" for block in BLOCKS) == 4


def test_every_page_with_commands_is_looked_at() -> None:
    looked = {page.relative_to(ROOT) for page in PAGES}
    for path in (path for folder in ("", "docs", "examples") for path in (ROOT / folder).glob("*.md")):
        if "```bash" in path.read_text(encoding="utf-8"):
            assert path.relative_to(ROOT) in looked, path


def test_help_is_what_the_commands_of_the_reference_have() -> None:
    assert set(COMMANDS) == set(SCRIPTS)
    for name, command in COMMANDS.items():
        assert CliRunner().invoke(command, ["--help"], prog_name=name).output.startswith(f"Usage: {name}")
