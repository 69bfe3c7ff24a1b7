"""A command, where it works, and what must hold whatever happens to it."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measuring.forked import start, wait

State = dict[str, str]


@dataclass
class Case:
    """A command, carried out in a directory of its own.

    Attributes:
        name: how it is called in the report.
        run: the command as a user gives it, in the current directory; given again, it goes on.
        files: patterns of what it makes, each file by itself; hidden ones never belong to it.
        whole: directories that change as one.
        between: what it makes may be between the old state and the new one, as a run's last checkpoint; it is compared
            when the command was given again.
        fresh: where it starts from; old and new are the states there, before and after it.
    """

    name: str
    run: Callable[[], object]
    files: Sequence[str] = ()
    whole: Sequence[str] = ()
    between: bool = False
    fresh: Path = field(default_factory=Path)
    old: State = field(default_factory=dict)
    new: State = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    seconds: float = 0.0

    def state(self, directory: Path) -> State:
        """Return digests of what it makes, by name."""
        found = {}
        for pattern in self.files:
            for path in directory.glob(pattern):
                if path.is_file() and not path.name.startswith("."):
                    found[path.relative_to(directory).as_posix()] = _digest([path], directory)
        for name in self.whole:
            inside = sorted(path for path in (directory / name).rglob("*") if path.is_file())
            if inside:
                found[name] = _digest(inside, directory)
        return found

    def wrong(self, directory: Path) -> str | None:
        """Return what is neither as before nor as after."""
        if self.between:
            return None
        for name, digest in self.state(directory).items():
            if digest not in (self.old.get(name), self.new.get(name)):
                return f"{name} is neither the old one nor the new one"
        gone = [name for name in self.old if name not in self.state(directory)]
        return f"{gone[0]} is gone" if gone else None

    def unfinished(self, directory: Path) -> str | None:
        """Return what is not as after a command that nothing happened to."""
        state = self.state(directory)
        for name in {*state, *self.new}:
            if state.get(name) != self.new.get(name):
                return f"{name} is another than without the fault"
        left = [name for name in listing(directory) - self.names if not _matches(name, ("*/tensorboard/*",))]
        return f"{sorted(left)[0]} was left behind" if left else None

    def begin(self, directory: Path) -> None:
        """Give a directory the state before the command."""
        clear(directory)
        shutil.copytree(self.fresh, directory, symlinks=True, dirs_exist_ok=True)


def clear(directory: Path) -> None:
    """Empty a directory, which may be a mount point and so stays."""
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def carry_out(case: Case, directory: Path, log: Path) -> int:
    """Carry a command out to its end; give its exit code."""
    return wait(start(case.run, log, cwd=directory))


def listing(directory: Path) -> set[str]:
    """Return the names of everything below a directory."""
    return {
        Path(parent, name).relative_to(directory).as_posix()
        for parent, folders, names in os.walk(directory)
        for name in (*folders, *names)
    }


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(f"/{name}", pattern) for pattern in patterns)


def _digest(paths: Sequence[Path], directory: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.relative_to(directory).as_posix().encode() + b"\0")
        found.update(path.read_bytes())
    return found.hexdigest()
