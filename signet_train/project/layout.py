"""What a project is made of: its manifest, a configuration a stage, and the file that says what `fit` does.

PROJECT/manifest.parquet   the samples and their splits
PROJECT/poses/             keypoints
PROJECT/project.toml       pose estimator, experts, what is exported
PROJECT/pretrain-ase.toml  and one more a stage, with the reason beside each number
PROJECT/runs/, bundle/     what fit makes
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from signet_runtime.errors import ConfigError
from signet_runtime.files import whole_file
from signet_runtime.pose.estimators import DEFAULT

FILE = "project.toml"


class Project(BaseModel):
    """``project.toml``: what `signet-train fit` does, in the order of the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["translate", "recognise"] = "translate"
    pose: str = DEFAULT
    pretrain: tuple[str, ...] = ()
    align: bool = False
    cache_views: int = 4
    checkpoint: Literal["best", "last"] = "best"
    test_split: str = "test"
    export: tuple[str, ...] = ()


_EXPLAINED = {
    "task": "What is learned: sentences (translate), or the glosses of isolated signs (recognise).",
    "pose": "Who finds keypoints, in training and when the model is used.",
    "pretrain": "Stage I: the experts to train, each by its PROJECT/NAME.toml. Empty where experts were given.",
    "align": "Stage II, by align.toml: for sign languages that no expert has seen (Sec. 3.7).",
    "cache_views": "Noisy views of each sample that the cache of Stage II and III holds; as many as epochs is exact, "
    "one is fastest.",
    "checkpoint": "Which checkpoint of a run is used: the one of the best validation, or the last.",
    "test_split": "Which split the figures at the end are of.",
    "export": 'Options of signet-export, as ["--precision", "int8"].',
}


def read_project(directory: Path) -> Project:
    """Read ``project.toml``.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = directory / FILE
    try:
        return Project.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `signet-train init` makes a project") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {faults}") from None


def write_project(directory: Path, project: Project) -> None:
    """Write ``project.toml``, each field explained."""
    lines = [
        "# What `signet-train fit` does with this project, in this order. Settings of a stage are in its own file."
    ]
    for name in Project.model_fields:
        lines += ["", *_comment(_EXPLAINED[name]), f"{name} = {toml(getattr(project, name))}"]
    _write(directory / FILE, lines)


def write_stage(
    path: Path, heading: str, top: Mapping[str, tuple[Any, str]], sections: Mapping[str, Mapping[str, tuple[Any, str]]]
) -> None:
    """Write a stage's configuration: settings with the reason beside each, the rest at their defaults.

    Args:
        top: settings outside of sections.
        sections: the others, by their section.
    """
    lines = [
        *_comment(heading),
        "# `signet-train config --explain` tells every key; what is not here has its default.",
        "",
    ]
    lines += _settings(top)
    for section, settings in sections.items():
        if settings:
            lines += ["", f"[{section}]", *_settings(settings)]
    _write(path, lines)


def _settings(settings: Mapping[str, tuple[Any, str]]) -> list[str]:
    return [f"{key} = {toml(value)}" + (f"  # {why}" if why else "") for key, (value, why) in settings.items()]


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, Path)):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return repr(value)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, 100)]


def _write(path: Path, lines: list[str]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
