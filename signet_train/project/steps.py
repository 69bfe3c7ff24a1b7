"""The steps of a project, each a command, and which of them are done."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.directories import recover_directory
from signet_runtime.errors import InputError
from signet_runtime.files import whole_file
from signet_train.project.layout import FILE, Project

_DONE = "done.json"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a project.

    Attributes:
        name: of the step, and of its run where it is a stage's.
        program: signet-train, signet-export or signet-translate.
        arguments: of the command.
        inputs: files that it builds on, beside what the steps before it make.
        config: its own settings.
        makes: what it makes; of an earlier version of the inputs it is put aside.
        always: done at every run: it finds out by itself what is there.
        resumable: takes --resume where ``makes`` has a checkpoint.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    config: Path | None = None
    makes: Path | None = None
    always: bool = False
    resumable: bool = False

    def command(self) -> list[str]:
        """Return what is run: a run that was begun goes on, one, too, that was killed between two renames."""
        if not self.resumable or self.makes is None:
            return list(self.arguments)
        recover_directory(self.makes / "last")
        begun = (self.makes / "last" / "config.json").is_file()
        return [*self.arguments, *(["--resume"] if begun else [])]


def steps_of(directory: Path, project: Project, clip: str | None, device: str | None) -> list[Step]:
    """List the steps of a project in their order.

    Args:
        clip: a recording or keypoints of the test split, for the last step; None leaves it out.
        device: for the stages; None: CUDA where there is one.
    """
    manifest, runs = directory / "manifest.parquet", directory / "runs"
    task = ("--task", project.task)
    where = () if device is None else ("--device", device)
    steps = [
        Step("extract", "signet-train", ("extract-poses", str(manifest), "--pose", project.pose), always=True),
        Step("check", "signet-train", ("check", str(manifest), *task), (manifest,)),
    ]

    def stage(command: str, name: str) -> Step:
        config, run = directory / f"{name}.toml", runs / name
        arguments = (command, str(config), "--out", str(run), *where)
        return Step(name, "signet-train", arguments, (manifest,), config, run, resumable=True)

    steps += [stage("pretrain", name) for name in project.pretrain]
    cache = ("cache", str(directory / "finetune.toml"), "--views", str(project.cache_views), "--half", *where)
    steps.append(Step("cache", "signet-train", cache, (manifest,), makes=directory / "features", always=True))
    steps += [stage("align", "align")] if project.align else []
    steps.append(stage("finetune", "finetune"))
    tuned, bundle = str(runs / "finetune" / project.checkpoint), directory / "bundle"
    evaluate = ("evaluate", tuned, "--split", project.test_split, "--out", str(directory / "predictions.jsonl"), *where)
    steps.append(Step("evaluate", "signet-train", evaluate, config=directory / FILE))
    export = (tuned, "--out", str(bundle), "--force", *project.export)
    steps.append(Step("export", "signet-export", export, config=directory / FILE))
    if clip is not None:
        steps.append(Step("translate", "signet-translate", ("--bundle", str(bundle), clip), always=True))
    return steps


class Ledger:
    """Which steps were done, and with what: one is done again where its inputs, or what it builds on, changed."""

    def __init__(self, directory: Path, steps: Sequence[Step]) -> None:
        """Read what was done, and what there is now.

        Raises:
            InputError: a step's input is not there.
        """
        self._path = directory / _DONE
        self._noted: dict[str, str] = _read_noted(self._path)
        self._built_on: dict[str, str] = {}
        self._whole: dict[str, str] = {}
        before = ""
        for step in steps:
            self._built_on[step.name] = _digest([step.arguments, before, *map(_contents, step.inputs)])
            own = None if step.config is None else _contents(step.config)
            self._whole[step.name] = _digest([self._built_on[step.name], own])
            if step.makes is not None:  # checks and figures change nothing that later steps read
                before = self._whole[step.name]

    def is_done(self, step: Step) -> bool:
        """Whether a step was done with what there is now."""
        return not step.always and self._noted.get(step.name) == self._whole[step.name]

    def begin(self, step: Step) -> Path | None:
        """Note that a step begins; what it made of other things is put aside, and where that is returned.

        A stage whose own configuration changed goes on, as far as --resume lets it.
        """
        aside = None
        noted = self._noted.get(f"{step.name} builds on")
        if step.makes is not None and step.makes.exists() and noted not in (None, self._built_on[step.name]):
            places = (step.makes.with_name(f"{step.makes.name}.{i}") for i in range(1, 10_000))
            aside = next(place for place in places if not place.exists())
            shutil.move(step.makes, aside)
        self._note(f"{step.name} builds on", self._built_on[step.name])
        return aside

    def finish(self, step: Step) -> None:
        """Note that a step is done."""
        self._note(step.name, self._whole[step.name])

    def _note(self, key: str, value: str) -> None:
        self._noted[key] = value
        with whole_file(self._path) as temporary:
            temporary.write_text(json.dumps(self._noted, indent=1), encoding="utf-8")


def _read_noted(path: Path) -> dict[str, str]:
    """Return what was noted; nothing of it where the notes are damaged: the steps are then done again."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _contents(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
