"""From a name to a model that is here: licence, room, files, and what is made of them; whole or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from signet_runtime.bundle import FileRecord, read_manifest
from signet_runtime.directories import whole_directory
from signet_runtime.errors import ModelError, OutputError, SignetError, one_line
from signet_runtime.files import reporting
from signet_runtime.installation import how_to_install
from signet_runtime.leftovers import sweep
from signet_runtime.models.catalogue import Entry, Licence
from signet_runtime.models.convert import (
    check_can_import,
    export,
    import_expert,
    import_model,
    place_bundle,
    place_files,
    unpack_bundle,
)
from signet_runtime.models.downloads import discard_from_cache, hub_state, is_offline
from signet_runtime.models.fetch import Fetched, Fetcher, load_catalogue
from signet_runtime.models.home import Home, Installed, file_record, now, write_description
from signet_runtime.models.reference import ARCHIVE, HERE, Reference, refer, with_licence
from signet_runtime.pose.estimators import ESTIMATORS
from signet_runtime.pose.models import find_models, model_directory
from signet_runtime.signatures import PublicKey, check_signature

logger = logging.getLogger("signet_runtime")

# What is on the disk at most while an entry is made, in sizes of its download. A checkpoint's was measured with
# mT5-base's size (docs/models.md), with fp32 in what it becomes and bf16 in the published one.
PEAK = {"unisign": 6.0, "bundle": 2.0, "mt5": 1.0, "zipped-onnx": 2.0, "wheel": 1.0}

_MADE_WITH = ("signet-slt", "torch", "transformers", "onnx", "onnxruntime", "huggingface-hub")


def _nothing(line: str) -> None:
    pass


def _refuse(question: str) -> bool:
    return False


@dataclass(frozen=True)
class Wishes:
    """How a model is to be pulled.

    Attributes:
        offline: never touch the network.
        accept: asked whether a licence, in words, is accepted; by default none is.
        keep: the downloads, and the imported checkpoint beside the bundle.
        beside: for another machine: kept downloads go beside the models, and the pose estimator's weights come along.
        everything: optional files too.
        again: also where it is here, if the source has another now.
        signed_by: whose signature a bundle must have; None takes any.
        report: takes a line for the user. quiet: no bars.
    """

    offline: bool = False
    accept: Callable[[str], bool] = _refuse
    keep: bool = False
    beside: bool = False
    everything: bool = False
    again: bool = False
    signed_by: PublicKey | None = None
    report: Callable[[str], None] = _nothing
    quiet: bool = False


def bundle_of(asked: str, wishes: Wishes, home: Home | None = None) -> Path:
    """Return the bundle of a model that was asked for by name; what is not here is pulled if that is allowed.

    Args:
        asked: NAME, hf:ORG/NAME[@REVISION] or https://….signet#sha256=…
        home: where it is looked for and put; None is the default one.

    Raises:
        ModelError: it is not known, or is no translator; or it is not here and may not be pulled, or cannot be.
        SignetError: as `pull`.
    """
    home = home or Home.default()
    reference = _refer_here(asked, home) or refer(asked, load_catalogue(offline=wishes.offline, home=home))
    model = home.installed(reference.name)
    if model is None:
        entry = reference.catalogue.entry(reference.name)
        if not entry.becomes_bundle:
            raise ModelError(
                f"{asked}: of the kind {entry.kind}, and no translator; signet-models list tells which ones are"
            )
        model = pull(reference, home, wishes)
    if model.product != "bundle":
        raise ModelError(
            f"{asked}: of the kind {model.kind}, and no translator; signet-models list tells which ones are"
        )
    return home.directory(reference.name) / model.product


def _refer_here(asked: str, home: Home) -> Reference | None:
    """Return a reference to what is here under a name, for which no catalogue need be read."""
    from signet_runtime.models.catalogue import Catalogue, is_inside

    if ":" in asked or "/" in asked or not is_inside(asked) or home.installed(asked) is None:
        return None
    return Reference(asked, asked, Catalogue())


def pull(reference: Reference, home: Home, wishes: Wishes) -> Installed:
    """Bring a model here, unless it is; return what is here.

    Raises:
        ModelError: its licence is not accepted; or nothing may be fetched, or it cannot be.
        CheckpointError: a file is another than it has to be, or no checkpoint.
        BundleError: it is no bundle, or a damaged one.
        OutputError: it cannot be written.
        EngineError: what it takes is not installed.
    """
    here = home.installed(reference.name)
    if here is not None and (not wishes.again or not _has_changed(reference, home, here, wishes)):
        if wishes.signed_by is not None:
            check_signature(home.product(reference.name), wishes.signed_by)
        if wishes.again:  # what was killed after it had made the model goes on from there
            sweep(home.path)
            _pull_estimator(reference, reference.catalogue.entry(reference.name), home, wishes)
        return here
    entry = reference.catalogue.entry(reference.name)
    if wishes.signed_by is not None and entry.format != "bundle":
        raise ModelError(f"{reference.asked}: is made here, of files that are no bundle: nobody signed that")
    if is_offline(wishes.offline, hub=True) and reference.asked.startswith("hf:") and here is None:
        raise ModelError(f"{reference.asked}: not here, and nothing is fetched while offline")
    reference = _described(reference, home, wishes)
    licence = reference.catalogue.licence(entry)
    _accept(reference, entry, licence, home, wishes)
    if entry.format == "unisign":
        check_can_import(reference.name)
    _check_room(reference, entry, home, wishes)
    with home.lock(reference.name):
        now_here = home.installed(reference.name)
        if now_here is not None and now_here != here:  # another process was faster
            return now_here
        model = _make(reference, entry, licence, home, wishes)
    _pull_estimator(reference, entry, home, wishes)
    return model


def files_of(reference: Reference, home: Home, wishes: Wishes) -> Fetched:
    """Return an entry's files as they were published, checked; what is not here is fetched, and stays.

    Raises:
        ModelError, CheckpointError, OutputError, EngineError: as `pull`.
    """
    entry = reference.catalogue.entry(reference.name)
    _accept(reference, entry, reference.catalogue.licence(entry), home, wishes)
    fetcher = Fetcher(
        reference.catalogue, home, offline=wishes.offline, everything=wishes.everything, quiet=wishes.quiet
    )
    return fetcher.fetch(reference.name)


def _has_changed(reference: Reference, home: Home, here: Installed, wishes: Wishes) -> bool:
    """Return whether more is wished for than is here, or its source is another now, as far as may be asked."""
    entry = reference.catalogue.entry(reference.name)
    imported = entry.format == "unisign" and entry.becomes_bundle
    if wishes.keep and imported and not (home.directory(reference.name) / "checkpoint").is_dir():
        return True
    if wishes.everything and not {file.path for file in entry.files} <= here.sources.keys():
        return True
    repository = reference.catalogue.repository(entry)
    if repository is None or (repository.revision is None and is_offline(wishes.offline, hub=True)):
        return False
    if repository.revision is not None:
        commit = repository.revision
    elif reference.asked.startswith("hf:"):
        commit = hub_state(repository.hub, repository.branch).commit
    else:
        commit = home.known().revisions.get(f"{repository.hub}@{repository.branch}", "")
    return here.source != f"hub:{repository.hub}@{commit}"


def _described(reference: Reference, home: Home, wishes: Wishes) -> Reference:
    """Ask a hub for the licence of a repository that no catalogue has, and hold its branch to the commit of now."""
    if not reference.asked.startswith("hf:") or is_offline(wishes.offline, hub=True):
        return reference
    repository = reference.catalogue.repositories[HERE]
    state = hub_state(repository.hub, repository.revision or repository.branch)
    if repository.revision is None:
        with home.changed_records() as records:
            records.revisions[f"{repository.hub}@{repository.branch}"] = state.commit
    return with_licence(reference, state.licence)


def _accept(reference: Reference, entry: Entry, licence: Licence, home: Home, wishes: Wishes) -> None:
    if not licence.must_be_accepted:
        return
    key = f"{reference.asked if entry.licence == HERE else entry.licence}: {licence.says}"
    if key in home.records().licences:
        return
    if key not in home.known().licences and not wishes.accept(f"{reference.asked}: {licence.says}"):
        raise ModelError(
            f"{reference.asked}: its licence has to be accepted once ({licence.says}): "
            f"signet-models pull '{reference.asked}' --accept-licence"
        )
    with home.changed_records() as records:
        records.licences[key] = now()


def _check_room(reference: Reference, entry: Entry, home: Home, wishes: Wishes) -> None:
    size = entry.download_size(wishes.everything)
    if size is None:
        return
    needed = room_needed(entry, wishes.everything)
    free = free_space(home.path)
    if needed > free:
        raise OutputError(
            f"{home.path}: {reference.name} takes {needed / 1e9:.1f} GB of disk while it is made, {free / 1e9:.1f} GB "
            "are free: free space, or name another directory by --to or SIGNET_MODELS"
        )


def room_needed(entry: Entry, everything: bool = False) -> int:
    """Return how many bytes of disk an entry takes while it is made; 0 where its size is not known."""
    factor = 1.1 if entry.kind == "expert" else PEAK[entry.format]  # of an expert only the small encoder is written
    return round(factor * (entry.download_size(everything) or 0))


def free_space(path: Path) -> int:
    """Return the free bytes where a directory is, or would be."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    return shutil.disk_usage(there).free


def _make(reference: Reference, entry: Entry, licence: Licence, home: Home, wishes: Wishes) -> Installed:
    name = reference.name
    fetcher = Fetcher(
        reference.catalogue,
        home,
        offline=wishes.offline,
        everything=wishes.everything,
        keep_beside=wishes.beside and wishes.keep,
        signed=wishes.signed_by is not None,
        quiet=wishes.quiet,
    )
    size = entry.download_size(wishes.everything)
    told = f" ({size / 1e9:.2f} GB)" if size and size > 1e7 else ""
    wishes.report(f"{reference.asked}: fetching what it is made of{told}")
    fetched = fetcher.fetch(name)
    for needed in entry.needs:
        fetcher.fetch(needed)
    product = _product(entry)
    with (
        reporting(home.path, "cannot be written ({}); free space, or name another directory in SIGNET_MODELS"),
        whole_directory(home.directory(name)) as draft,
    ):
        _convert(reference, entry, fetched, draft, home, wishes)
        model = Installed(
            name=reference.asked,
            kind=entry.kind,
            product=product,
            source=fetched.source,
            licence=licence.says,
            licence_id=licence.id,
            sources=fetched.records,
            files={} if product == "bundle" else _records_below(draft, product),
            made_with=_versions(),
            when=now(),
        )
        write_description(draft, model)
    if not wishes.keep:
        for path in fetched.downloaded:
            discard_from_cache(path)
    fetcher.discard_downloads(name)
    return model


def _product(entry: Entry) -> Literal["bundle", "expert", "files"]:
    if entry.becomes_bundle:
        return "bundle"
    return "expert" if entry.kind == "expert" else "files"


def _convert(reference: Reference, entry: Entry, fetched: Fetched, draft: Path, home: Home, wishes: Wishes) -> None:
    """Make of an entry's files, in the draft of its directory, what it is for."""
    name, out = reference.name, draft / _product(entry)
    if entry.format == "wheel":
        models = find_models(offline=wishes.offline)
        below = model_directory(models)
        place_files({path.relative_to(below).as_posix(): path for path in models.values()}, out)
    elif entry.format == "bundle" and ARCHIVE in fetched.files:
        wishes.report(f"{reference.asked}: unpacking and checking the bundle")
        unpack_bundle(fetched.files[ARCHIVE], out, wishes.signed_by)
    elif entry.format == "bundle":
        place_bundle(fetched.files, out, wishes.signed_by)
    elif entry.format == "unisign" and entry.kind == "expert":
        wishes.report(f"{reference.asked}: importing the expert")
        import_expert(name, out, home)
    elif entry.format == "unisign":
        checkpoint = draft / "checkpoint"
        wishes.report(f"{reference.asked}: importing the checkpoint")
        import_model(name, checkpoint, home)
        wishes.report(f"{reference.asked}: exporting it, and comparing what runs with PyTorch")
        export(checkpoint, out, home)
        if not wishes.keep:
            shutil.rmtree(checkpoint)
    else:
        place_files(fetched.files, out)


def _records_below(draft: Path, product: str) -> dict[str, FileRecord]:
    return {
        path.relative_to(draft).as_posix(): file_record(path)
        for path in sorted((draft / product).rglob("*"))
        if path.is_file()
    }


def _pull_estimator(reference: Reference, entry: Entry, home: Home, wishes: Wishes) -> None:
    """Bring the weights of the pose estimator that a model wants, where it can run, or for the machine that will."""
    if not entry.becomes_bundle:
        return
    wanted = read_manifest(home.product(reference.name)).pose_estimator
    if wanted not in reference.catalogue.models:
        return
    row = ESTIMATORS.get(wanted)
    if not wishes.beside and row is not None and not _is_installed(row.package):
        wishes.report(f"{reference.asked}: it wants keypoints of {wanted}, which takes {how_to_install(row.extra)}")
        return
    try:
        pull(Reference(wanted, wanted, reference.catalogue), home, wishes)
    except SignetError as error:  # the model is here, and another estimator may do
        logger.warning("%s: its pose estimator %s is not here: %s", reference.asked, wanted, one_line(error))


def _versions() -> dict[str, str]:
    return {package: version(package) for package in _MADE_WITH if _is_installed(package)}


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
