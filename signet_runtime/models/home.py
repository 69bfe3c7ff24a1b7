"""Where models lie on this machine, and what is remembered of them.

```
HOME/            $SIGNET_MODELS, or signet/models below $XDG_DATA_HOME (~/.local/share)
  records.json   files' hashes as they were first seen, commits that names were held to, licences that were accepted
  NAME/          one model, whole or not at all
    model.json   what it was made of, and every file of it that is not a bundle's
    bundle/      what signet-translate runs; or expert/ for training, files/ for weights
    checkpoint/  where it was kept
  hub/           downloads that were kept beside the models (pull --to DIR --keep), laid out as the hub's own cache
```
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from signet_runtime.boundary import read_json, reading
from signet_runtime.bundle import FileRecord
from signet_runtime.errors import ModelError, OutputError
from signet_runtime.files import reporting, whole_file
from signet_runtime.leftovers import sweep
from signet_runtime.remembered import user_home

logger = logging.getLogger("signet_runtime")

HOME_VARIABLE = "SIGNET_MODELS"
DESCRIPTION = "model.json"
_PATIENCE = 1.0  # seconds until it is said that somebody else is waited for

_UNWRITABLE = "cannot be written ({}); free space, or name another directory in " + HOME_VARIABLE


class Installed(BaseModel):
    """The contents of a model's `model.json`.

    Attributes:
        name: that it was asked for by.
        product: the directory of it that is of use.
        source: where its files came from: "hub:ORG/NAME@COMMIT", a URL.
        licence: in words; licence_id: SPDX's, where one is stated.
        sources: files that it was made of, with what they were.
        files: of the product, by their path in the model's directory; a bundle's are in its own manifest.
        made_with: package -> version.
        when: UTC.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_version: Literal[1] = 1
    name: str
    kind: str
    product: Literal["bundle", "expert", "files"]
    source: str
    licence: str
    licence_id: str | None = None
    sources: dict[str, FileRecord]
    files: dict[str, FileRecord] = {}
    made_with: dict[str, str] = {}
    when: str


class Records(BaseModel):
    """The contents of `records.json`.

    Attributes:
        files: where a file came from -> what it was.
        revisions: a repository without a pinned commit -> the one that it is held to.
        licences: what was accepted, in the words that were shown -> when.
    """

    model_config = ConfigDict(extra="ignore")

    files: dict[str, FileRecord] = {}
    revisions: dict[str, str] = {}
    licences: dict[str, str] = {}


@dataclass(frozen=True)
class Home:
    """A directory of models.

    Attributes:
        path: it need not exist before something is put there.
    """

    path: Path

    @classmethod
    def default(cls) -> Home:
        """Return the one that ``SIGNET_MODELS`` names, or the user's own."""
        named = os.environ.get(HOME_VARIABLE)
        if named:
            return cls(Path(named).absolute())
        data = os.environ.get("XDG_DATA_HOME")
        return cls((Path(data) if data else user_home(HOME_VARIABLE) / ".local" / "share") / "signet" / "models")

    @property
    def hub(self) -> Path:
        """The hub's cache for downloads that are kept beside the models."""
        return self.path / "hub"

    def directory(self, name: str) -> Path:
        """Return where a model of this name is, or would be; the name is a catalogue's, or made by `reference`."""
        return self.path / name

    def installed(self, name: str) -> Installed | None:
        """Return what is here under a name, None for nothing.

        Raises:
            ModelError: what is here is damaged.
        """
        path = self.directory(name) / DESCRIPTION
        advice = f"signet-models remove {name}, and pull it again"
        with reading(path, ModelError, "the description of a model", advice):
            if not path.exists() and not path.is_symlink():
                return None
            content = read_json(path, "settings_bytes", ModelError, advice=advice)
            return Installed.model_validate(content)

    def all_installed(self) -> list[Installed]:
        """Return all that is here, by name; what is damaged is left out."""
        found = []
        for path in sorted(self.path.glob(f"*/{DESCRIPTION}")):
            with contextlib.suppress(ModelError):
                model = self.installed(path.parent.name)
                if model is not None:
                    found.append(model)
        return found

    def product(self, name: str) -> Path:
        """Return the directory of a model that is of use: a bundle, an expert, or a directory of weights.

        Raises:
            ModelError: there is none here.
        """
        model = self.installed(name)
        if model is None:
            raise ModelError(f"{name}: not here ({self.path}); get it by: signet-models pull {name}")
        return self.directory(name) / model.product

    def check(self, name: str) -> int:
        """Compare a model's files with their hashes; return how many there are.

        Raises:
            ModelError: it is not here, or a file of it is missing or another.
        """
        model = self.installed(name)
        if model is None:
            raise ModelError(f"{name}: not here ({self.path}); get it by: signet-models pull {name}")
        for relative, record in model.files.items():
            path = self.directory(name) / relative
            if not path.is_file() or file_record(path) != record:
                raise ModelError(f"{path}: missing or damaged; signet-models remove {name}, and pull it again")
        return len(model.files)

    def remove(self, name: str) -> int:
        """Remove a model; return the bytes that this freed.

        Raises:
            ModelError: there is none.
            OutputError: it cannot be removed.
        """
        directory = self.directory(name)
        if not directory.is_dir():
            raise ModelError(f"{name}: not here ({self.path}), so there is nothing to remove")
        size = directory_size(directory)
        with self.lock(name), reporting(directory, "cannot be removed ({})"):
            # First out of sight: what is killed half-way must not look like a model.
            directory.rename(self._gone(name))
            shutil.rmtree(self._gone(name))
        return size

    def _gone(self, name: str) -> Path:
        return self.path / f".{name}.gone"

    def records(self) -> Records:
        """Return what is remembered.

        Raises:
            ModelError: the file is damaged.
        """
        path = self.path / "records.json"
        advice = "it holds the hashes that files must have: restore it, or remove it to trust what is downloaded next"
        with reading(path, ModelError, "the records of models", advice):
            try:
                path.lstat()
            except FileNotFoundError:
                return Records()
            except NotADirectoryError as error:
                raise OutputError(f"{self.path}: is not a directory; name another in {HOME_VARIABLE}") from error
            return Records.model_validate(read_json(path, "settings_bytes", ModelError, advice=advice))

    def known(self) -> Records:
        """Return what is remembered here, and where it is silent what the default directory of models remembers.

        Raises:
            ModelError: a file of records is damaged.
        """
        here, user = self.records(), Home.default().records()
        return Records(
            files={**user.files, **here.files},
            revisions={**user.revisions, **here.revisions},
            licences={**user.licences, **here.licences},
        )

    @contextlib.contextmanager
    def changed_records(self) -> Iterator[Records]:
        """Yield what is remembered, to be changed; it is written as a whole when the block ends.

        Raises:
            ModelError: the file is damaged.
            OutputError: it cannot be written.
        """
        with self.lock("records.json"):
            records = self.records()
            before = records.model_dump_json()
            yield records
            if records.model_dump_json() != before:
                with whole_file(self.path / "records.json", _UNWRITABLE) as temporary:
                    temporary.write_text(records.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Let one process at a time change a model, and clear away what killed processes left.

        Raises:
            OutputError: the directory cannot be written.
        """
        from filelock import FileLock, Timeout

        locks = self.path / ".locks"
        with reporting(self.path, _UNWRITABLE):
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{name}.lock")
            try:
                lock.acquire(timeout=_PATIENCE)
            except Timeout:
                logger.warning("%s: another process is at it; waiting", name)
                lock.acquire()
        try:
            sweep(self.path)
            shutil.rmtree(self._gone(name), ignore_errors=True)
            yield
        finally:
            lock.release()


def file_record(path: Path) -> FileRecord:
    """Return a file's size and SHA-256.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(size=file.tell(), sha256=sha256)


def directory_size(path: Path) -> int:
    """Return the bytes of all files below a directory; links count as what they are."""
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def now() -> str:
    """Return the time for records, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_description(directory: Path, model: Installed) -> None:
    """Write a model's `model.json` into its draft."""
    content = json.loads(model.model_dump_json())
    (directory / DESCRIPTION).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
