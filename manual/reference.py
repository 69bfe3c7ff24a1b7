"""The pages of the reference: every command's own help, and the public names of the packages from their docstrings."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import click
from click.testing import CliRunner

import signet_runtime
from manual.pages import ROOT

# A page a package: its title, what is said first, and the modules whose public names are told, in that order.
_MODULES: dict[str, tuple[str, str, list[str]]] = {
    "runtime": (
        "signet_runtime, further modules",
        "What a bundle, a clip and a model's input are. To translate, [the names of the package](package.md) suffice.",
        [
            "signet_runtime.options",
            "signet_runtime.bundle",
            "signet_runtime.skeleton",
            "signet_runtime.regions",
            "signet_runtime.pose.estimators",
            "signet_runtime.sentences.segmenter",
            "signet_runtime.confidence.calibration",
            "signet_runtime.errors",
        ],
    ),
    "train": (
        "signet_train",
        "The paper's model, the three stages, data and metrics. PyTorch is needed: `.[train]`.",
        [
            "signet_train.config",
            "signet_train.checkpoint",
            "signet_train.model.signet",
            "signet_train.model.backbone",
            "signet_train.model.stgcn",
            "signet_train.model.fusion",
            "signet_train.model.adapter",
            "signet_train.model.aggregation",
            "signet_train.model.router",
            "signet_train.model.losses",
            "signet_train.stages.run",
            "signet_train.data.manifest",
            "signet_train.data.store",
            "signet_train.evaluation.metrics",
            "signet_train.evaluation.predictions",
            "signet_train.interop.unisign",
            "signet_train.interop.signet",
        ],
    ),
    "export": (
        "signet_export",
        "From a checkpoint to a bundle, and the proof that both write the same.",
        [
            "signet_export.bundle",
            "signet_export.fuse",
            "signet_export.winograd",
            "signet_export.encoder",
            "signet_export.split",
            "signet_export.decoder",
            "signet_export.vocabulary",
            "signet_export.pinning",
            "signet_export.precision",
            "signet_export.quantize",
            "signet_export.tensorrt",
            "signet_export.confidence",
            "signet_export.verify",
            "signet_export.archive",
            "signet_export.inspect",
        ],
    ),
}


def commands() -> dict[str, click.Command]:
    """Return every command that the project installs, by its name."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    found = {}
    for name, target in scripts.items():
        module = target.partition(":")[0]
        command = importlib.import_module(module).main
        if not isinstance(command, click.Command):  # it says what is missing before it imports the group
            command = importlib.import_module(module.replace("__main__", "cli")).main
        found[name] = command
    return found


def write(into: Path) -> list[tuple[str, str]]:
    """Write the reference below a directory, and return its pages: what each is called, and where it lies there."""
    pages = {"reference/package.md": ("signet_runtime", _package())}
    for name, (called, said, modules) in _MODULES.items():
        told = [f"# {called}", said, *(_module(module) for module in modules)]
        pages[f"reference/{name}.md"] = (called, "\n\n".join(told))
    for name, command in commands().items():
        pages[f"commands/{name}.md"] = (name, f"# {name}\n\n" + _command(name, command))
    for path, (_, text) in pages.items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_text(text + "\n", encoding="utf-8")
    return [(called, path) for path, (called, _) in pages.items()]


def modules() -> list[str]:
    """Return the modules whose public names the reference tells."""
    return [module for _, _, told in _MODULES.values() for module in told]


def _package() -> str:
    names = sorted(signet_runtime.__all__, key=lambda name: (name.endswith("Error"), name != "Translator", name))
    said = "The names that `from signet_runtime import …` has; [examples](../python.md) of all that is done with them."
    return "\n\n".join(["# signet_runtime", said, *(f"::: signet_runtime.{name}" for name in names)])


def _module(module: str) -> str:
    return (
        f"## {module}\n\n::: {module}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false"
    )


def _command(name: str, command: click.Command, level: int = 2) -> str:
    """Return a command's help, and below it that of the commands it has."""
    told = [_help(name, command)]
    if isinstance(command, click.Group):
        for sub, inner in command.commands.items():
            told += [f"{'#' * level} {sub}", _command(f"{name} {sub}", inner, level + 1)]
    return "\n\n".join(told)


def _help(name: str, command: click.Command) -> str:
    said = CliRunner().invoke(command, ["--help"], prog_name=name, terminal_width=96, color=False).output
    # A module's own place says nothing to a reader, and differs from machine to machine.
    said = said.replace(str(Path.home()), "~")
    return f"```text\n{re.sub(r'[ ]+$', '', said, flags=re.MULTILINE).strip()}\n```"
