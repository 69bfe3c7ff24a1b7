"""What a project is made of: its manifest, a configuration a stage, and the file that says what `fit` does.

PROJECT/manifest.parquet   the samples and their splits
PROJECT/poses/             keypoints
PROJECT/project.toml       pose estimator, experts, what is exported
PROJECT/pretrain-ase.toml  and one more a stage, with the reason beside each number
PROJECT/runs/, bundle/     what fit makes
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from signet_runtime.errors import OutputError
from signet_runtime.files import whole_file
from signet_runtime.pose.estimators import DEFAULT
from signet_train.ranges import Text, Whole
from signet_train.settings import read_settings, validated

FILE = "project.toml"


class Project(BaseModel):
    """``project.toml``: what `signet-train fit` does, in the order of the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["translate", "recognise"] = "translate"
    pose: Annotated[str, Text(200, "it is a name")] = DEFAULT
    pretrain: tuple[Annotated[str, Text(200, "it is a name")], ...] = ()
    align: bool = False
    cache_views: Annotated[int, Whole(1, 100_000, "no more than there are epochs")] = 4
    checkpoint: Literal["best", "last"] = "best"
    test_split: Annotated[str, Text(200, "it is a name")] = "test"
    export: tuple[Annotated[str, Text(4096, "a command's option")], ...] = ()

    @model_validator(mode="after")
    def _stays_inside(self) -> Project:
        for name in self.pretrain:
            if "/" in name or name in ("", ".", ".."):
                raise ValueError(f'pretrain: "{name}" has to be the name of a PROJECT/NAME.toml')
        return self


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
    return validated(Project, read_settings(path, "; `signet-train init` makes a project"), path)


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
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes are JSON's
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return repr(value)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, 100)]


def _write(path: Path, lines: list[str]) -> None:
    try:
        written = "".join(f"{line}\n" for line in lines).encode()
    except UnicodeEncodeError:  # of a path
        raise OutputError(
            f"{path}: a name in it is no UTF-8, which TOML cannot hold; rename that file or folder"
        ) from None
    with whole_file(path) as temporary:
        temporary.write_bytes(written)
