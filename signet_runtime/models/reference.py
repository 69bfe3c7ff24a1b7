"""What a model can be called: NAME of a catalogue, hf:ORG/NAME[@REVISION], https://….signet#sha256=…"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from signet_runtime.boundary import reading
from signet_runtime.bundle import MANIFEST_NAME
from signet_runtime.errors import ModelError
from signet_runtime.models.catalogue import Catalogue, Entry, Licence, ModelFile, Repository
from signet_runtime.printable import is_printable, printable

_HUB = re.compile(r"hf:(?P<hub>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^\s@]+))?")
_URL = re.compile(r"(?P<url>https?://[^\s#]+)(?:#sha256=(?P<sha256>[0-9a-fA-F]{64}))?(?P<rest>#.*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FREE = re.compile(r"(apache-2\.0|mit|isc|bsd(-\w+)*|0bsd|unlicense|cc0-1\.0|cc-by(-sa)?-\d\.\d|mpl-2\.0|l?gpl-\d\.\d)")

_LONGEST = 2000  # characters of an address

ARCHIVE = "bundle.signet"
HERE = "reference"  # what the repository and the licence of an entry are called that is made of a reference


class Reference(NamedTuple):
    """A model that was asked for.

    Attributes:
        asked: as the user wrote it.
        name: of its entry in ``catalogue``, and of its directory.
        catalogue: with that entry, which is made of the reference unless it is a name.
    """

    asked: str
    name: str
    catalogue: Catalogue


def refer(asked: str, catalogue: Catalogue) -> Reference:
    """Find what a user asks for.

    Raises:
        ModelError: no such name; the nearest ones are offered. Or no valid reference; what is wrong.
    """
    if not is_printable(asked) or len(asked) > _LONGEST:
        raise ModelError(f"{printable(asked[:60])}…: not the name of a model, nor an address")
    if asked.startswith(("http://", "https://")):
        return _of_url(asked, catalogue)
    if asked.startswith("hf:"):
        return _of_hub(asked, catalogue)
    catalogue.entry(asked)
    return Reference(asked, asked, catalogue)


def with_licence(reference: Reference, licence: str | None) -> Reference:
    """Return a reference to a hub's repository with the licence that its card states, None where it states none."""
    catalogue = reference.catalogue
    return reference._replace(
        catalogue=catalogue.model_copy(update={"licences": {**catalogue.licences, HERE: _licence(licence)}})
    )


def _of_hub(asked: str, catalogue: Catalogue) -> Reference:
    found = _HUB.fullmatch(asked)
    if found is None:
        raise ModelError(f"{asked}: not a repository on a hub: write hf:ORG/NAME, or hf:ORG/NAME@REVISION")
    revision = found["revision"] or "main"
    pinned = {"revision": revision} if _COMMIT.fullmatch(revision) else {"branch": revision}
    return _made(
        asked,
        f"hf--{found['hub'].replace('/', '--')}",
        catalogue,
        Repository(hub=found["hub"], **pinned),
        ModelFile(path=MANIFEST_NAME),
        _licence(None),
    )


def _of_url(asked: str, catalogue: Catalogue) -> Reference:
    found = _URL.fullmatch(asked)
    if found is None or found["rest"] or found["sha256"] is None:
        raise ModelError(
            f"{asked}: say what must come from there: https://HOST/NAME.signet#sha256=… with the 64 digits that "
            "sha256sum prints of the archive"
        )
    with reading(asked, ModelError, "an address"):
        return _at(asked, found, catalogue)


def _at(asked: str, found: re.Match[str], catalogue: Catalogue) -> Reference:
    stem = found["url"].rpartition("/")[2].partition("?")[0]
    file = ModelFile(path=ARCHIVE, url=found["url"], sha256=found["sha256"].lower())
    return _made(asked, f"url--{stem}", catalogue, None, file, _licence(None))


def _made(
    asked: str, stem: str, catalogue: Catalogue, repository: Repository | None, file: ModelFile, licence: Licence
) -> Reference:
    # Two references never share a directory, whatever they have in common.
    readable = re.sub(r"[^a-z0-9._-]", "-", stem.lower())[:48]
    name = f"{readable}--{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    entry = Entry(
        kind="translator",
        format="bundle",
        summary=f"the bundle at {asked.partition('#')[0]}",
        repository=HERE if repository else None,
        licence=HERE,
        files=(file,),
    )
    own = Catalogue(
        repositories={HERE: repository} if repository else {}, licences={HERE: licence}, models={name: entry}
    )
    return Reference(asked, name, catalogue.with_own(own))


def _licence(stated: str | None) -> Licence:
    if stated is None:
        return Licence(terms="undeclared", says="no licence is stated: ask who published it what you may do with it")
    if _FREE.fullmatch(stated):
        return Licence(id=stated, terms="free", says=f"{stated}, by its model card")
    if "-nc" in stated:
        return Licence(id=stated, terms="non-commercial", says=f"{stated}, by its model card: not for commercial use")
    return Licence(id=stated, terms="undeclared", says=f"{stated}, by its model card: read there what it forbids")
