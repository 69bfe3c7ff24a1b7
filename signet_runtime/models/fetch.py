"""The files of an entry, each checked against the hash that the catalogue has, or that its first download had."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

from signet_runtime.boundary import read_text, reading
from signet_runtime.bundle import MANIFEST_NAME, FileRecord, read_manifest
from signet_runtime.bundle_contents import SIGNATURE
from signet_runtime.errors import CheckpointError, ConfigError, ModelError
from signet_runtime.files import reporting, whole_file
from signet_runtime.limits import check_limit
from signet_runtime.models.catalogue import Catalogue, ModelFile, Repository, built_in, parse_catalogue
from signet_runtime.models.downloads import (
    discard_from_cache,
    download,
    download_from_hub,
    find_in_cache,
    hub_says_it_is,
    hub_state,
    is_offline,
)
from signet_runtime.models.home import Home, file_record

logger = logging.getLogger("signet_runtime")

CATALOGUE_VARIABLE = "SIGNET_CATALOGUE"
_IN_ARCHIVE = "end2end.onnx"


@dataclass
class Fetched:
    """An entry's files, on this machine and checked.

    Attributes:
        source: where they came from, as `Installed.source`.
        files: by their names in the entry.
        records: what each is.
        downloaded: those that were not here before, in the hub's cache.
    """

    source: str
    files: dict[str, Path] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)
    downloaded: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Fetcher:
    """Gets files of entries.

    Attributes:
        catalogue: whose entries they are.
        home: where hashes are remembered, and where downloads lie that no hub's cache has.
        offline: take what is here, and never touch the network.
        everything: optional files too.
        keep_beside: put what a hub has into the home's own cache, to be carried with it.
        signed: also get the signature of a bundle.
        quiet: no progress.
    """

    catalogue: Catalogue
    home: Home
    offline: bool = False
    everything: bool = False
    keep_beside: bool = False
    signed: bool = False
    quiet: bool = False
    _reached: set[str] = field(default_factory=set)

    def fetch(self, name: str) -> Fetched:
        """Return an entry's files; what is not here is downloaded.

        Raises:
            ModelError: a file is not here and cannot be had.
            CheckpointError: one is another than it has to be; nothing of it is used.
            OutputError: it cannot be written.
            EngineError: huggingface_hub is not installed, and it is needed.
        """
        entry = self.catalogue.entry(name)
        repository = self.catalogue.repository(entry)
        commit = self.commit(repository) if repository else ""
        first = next((file.url for file in entry.files if file.url), "")
        found = Fetched(f"hub:{repository.hub}@{commit}" if repository else first)
        files = list(entry.files)
        for file in files:
            if file.optional and not self.everything:
                continue
            if file.url is not None:
                path = self._from_url(name, file)
                found.records[file.path] = file_record(path)
            else:
                assert repository is not None  # the catalogue was checked
                path, record, was_here = self.hub_file(name, repository.hub, commit, file)
                found.records[file.path] = record
                if not was_here:
                    found.downloaded.append(path)
            found.files[file.path] = path
            if entry.format == "bundle" and file.path == MANIFEST_NAME:
                named = read_manifest(path.parent).files.items()
                files += [ModelFile(path=inside, size=r.size, sha256=r.sha256) for inside, r in named]
                files += [ModelFile(path=SIGNATURE)] * self.signed
        return found

    def commit(self, repository: Repository) -> str:
        """Return the commit of a repository: the pinned one, else the one that it was held to, else the hub's now.

        Raises:
            ModelError: none is known, and the hub cannot be asked.
        """
        key = f"{repository.hub}@{repository.branch}"
        if repository.revision:
            return repository.revision
        held = self.home.known().revisions.get(key)
        if held:
            if key not in self.home.records().revisions:  # it goes along with what is carried
                with self.home.changed_records() as records:
                    records.revisions[key] = held
            return held
        if is_offline(self.offline, hub=True):
            raise ModelError(f"hf:{repository.hub}: not here, and nothing is fetched while offline")
        commit = hub_state(repository.hub, repository.branch).commit
        with self.home.changed_records() as records:
            records.revisions[key] = commit
        logger.warning("hf:%s: no commit of it was pinned; from now on it is held to %s", repository.hub, commit[:12])
        return commit

    def hub_file(self, name: str, hub: str, commit: str, file: ModelFile) -> tuple[Path, FileRecord, bool]:
        """Return a file of a repository, what it is, and whether it was here before.

        Raises:
            as `fetch`.
        """
        for cache in (self.home.hub, None):
            path = find_in_cache(hub, commit, file.path, cache)
            if path is not None:
                if cache is None and self.keep_beside:
                    path = self._carried(path)
                return path, self._checked(f"hf:{hub}", f"hub:{hub}@{commit}/{file.path}", file, path), True
        if is_offline(self.offline, hub=True):
            raise ModelError(
                f"{name}: {file.path} of hf:{hub} is not here, and nothing is fetched while offline; with a network: "
                f"signet-models pull {name}"
            )
        if hub not in self._reached:
            hub_state(hub, commit)  # at once: the client waits half a minute for a hub that is not there
            self._reached.add(hub)
        size = file.size or file.about
        logger.info("fetching %s of hf:%s%s", file.path, hub, f" ({size / 1e9:.2f} GB)" if size else "")
        path = download_from_hub(hub, commit, file.path, self.home.hub if self.keep_beside else None, quiet=self.quiet)
        return path, self._checked(f"hf:{hub}", f"hub:{hub}@{commit}/{file.path}", file, path), False

    def _carried(self, path: Path) -> Path:
        """Copy a file of the shared cache into the home's own, which is laid out alike."""
        shared = next(parent for parent in path.parents if parent.name == "snapshots").parents[1]
        target = self.home.hub / path.relative_to(shared)
        with reporting(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as temporary:
                shutil.copyfile(path, temporary)
        return target

    def _checked(self, where: str, key: str, file: ModelFile, path: Path) -> FileRecord:
        """Compare a file with what it has to be; what that is follows from the first one seen where nobody said it."""
        with reporting(path, "cannot be read ({})"):
            record = file_record(path)
        first = self.home.known().files.get(key)
        sha256, said_by = file.sha256, "the catalogue"
        if sha256 is None and first is not None:
            sha256, said_by = first.sha256, "its first download"
        problem = None
        if file.size is not None and record.size != file.size:
            problem = f"has {record.size} bytes, and the catalogue says {file.size}"
        elif sha256 is not None and record.sha256 != sha256:
            problem = f"its SHA-256 begins with {record.sha256[:12]}, and by {said_by} with {sha256[:12]}"
        if problem is not None:
            in_cache = "snapshots" in path.parts
            if in_cache and hub_says_it_is(path, record.sha256):
                advice = (
                    "the hub itself has that other file there: if you trust it, say so in a catalogue of your own "
                    "(docs/models.md)"
                )
            else:
                discard_from_cache(path) if in_cache else path.unlink(missing_ok=True)
                advice = "it was removed; pull it again"
            raise CheckpointError(f"{where}: {path.name} is another file than it has to be ({problem}): {advice}")
        if file.sha256 is None and key not in self.home.records().files:
            with self.home.changed_records() as records:
                records.files[key] = record
        if sha256 is None:
            logger.warning(
                "%s: nobody vouches for %s: it is taken as it came (SHA-256 %s…), and held to that from now on",
                where,
                file.path,
                record.sha256[:12],
            )
        return record

    def _from_url(self, name: str, file: ModelFile) -> Path:
        """Return a file that a web server has, taken out of its archive."""
        assert file.url is not None
        target = self.home.path / ".downloads" / name / file.path
        if target.is_file():
            with contextlib.suppress(CheckpointError):  # it was removed, and is fetched again
                self._checked(name, file.url, file, target)
                return target
        if is_offline(self.offline):
            raise ModelError(
                f"{name}: {file.path} is not here, and nothing is fetched while offline; with a network: "
                f"signet-models pull {name}"
            )
        archived = urlparse(file.url).path.endswith(".zip")
        part = target.with_name(f"{target.name}.part")
        logger.info("fetching %s", file.url)
        # A part of an archive could be of another one than is there now: only what has a known hash goes on.
        download(file.url, part, resume=not archived and file.sha256 is not None, quiet=self.quiet)
        if archived:
            _take_out(part, target, file.url)
        else:
            with reporting(target):
                part.replace(target)
        self._checked(name, file.url, file, target)
        return target

    def discard_downloads(self, name: str) -> None:
        """Remove what `_from_url` left of an entry."""
        shutil.rmtree(self.home.path / ".downloads" / name, ignore_errors=True)


def _take_out(archive: Path, target: Path, url: str) -> None:
    """Write the model of a zip archive to ``target``, and remove the archive."""
    try:
        advice = "what came is no zip archive, or a damaged one; pull it again"
        with reading(url, CheckpointError, "a zip archive", advice), zipfile.ZipFile(archive) as opened:
            inside = [entry for entry in opened.namelist() if entry.rpartition("/")[2] == _IN_ARCHIVE]
            if len(inside) != 1:
                raise CheckpointError(f"{url}: {len(inside)} files {_IN_ARCHIVE} in it, where one is looked for")
            check_limit("unpacked_bytes", opened.getinfo(inside[0]).file_size, url, CheckpointError)
            with opened.open(inside[0]) as source, whole_file(target) as temporary, temporary.open("wb") as to:
                shutil.copyfileobj(source, to)
    finally:
        archive.unlink(missing_ok=True)


def load_catalogue(own: str | None = None, *, offline: bool = False, home: Home | None = None) -> Catalogue:
    """Return the built-in catalogue, with one's own where there is one.

    Args:
        own: a TOML file, or the URL of one (``#sha256=…`` holds it to its contents); None takes what
            ``SIGNET_CATALOGUE`` names. Of a URL, the copy of the last time serves where nothing may be fetched.

    Raises:
        ConfigError: it cannot be read, or is no catalogue.
        ModelError: it cannot be fetched.
    """
    named = own or os.environ.get(CATALOGUE_VARIABLE)
    if not named:
        return built_in()
    if not named.startswith(("http://", "https://")):
        text = read_text(named, "settings_bytes", ConfigError, "a catalogue", "give a TOML file or a URL")
        return built_in().with_own(parse_catalogue(text, named, built_in()))
    url, _, sha256 = named.partition("#sha256=")
    home = home or Home.default()
    kept = home.path / ".catalogues" / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.toml"
    if not is_offline(offline):
        part = kept.with_suffix(".part")
        download(url, part, resume=False, quiet=True)
        got = file_record(part).sha256
        if sha256 and got != sha256:
            part.unlink()
            raise ConfigError(f"{url}: another catalogue than it has to be (its SHA-256 begins with {got[:12]})")
        parse_catalogue(read_text(part, "settings_bytes", ConfigError, "a catalogue"), url, built_in())
        part.replace(kept)
    elif not kept.is_file():
        raise ModelError(f"{url}: this catalogue is not here, and nothing is fetched while offline")
    text = read_text(kept, "settings_bytes", ConfigError, "a catalogue")
    return built_in().with_own(parse_catalogue(text, url, built_in()))
