"""Fetched files become what runs: by the other commands of the package, in processes of their own, or by unpacking."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from signet_runtime.boundary import reading
from signet_runtime.bundle import MANIFEST_NAME, Bundle
from signet_runtime.errors import BundleError, CheckpointError, EngineError, ModelError, OutputError, SignetError
from signet_runtime.files import reporting
from signet_runtime.installation import how_to_install
from signet_runtime.limits import check_limit
from signet_runtime.models.catalogue import is_inside
from signet_runtime.models.home import HOME_VARIABLE, Home
from signet_runtime.signatures import PublicKey, check_signature

# What importing and exporting a checkpoint takes, of signet-slt[train].
_OF_TRAIN = ("torch", "transformers", "safetensors", "optimum.onnxruntime", "onnx", "pyarrow")
_BY_CODE: dict[int, type[SignetError]] = {3: OutputError, 4: CheckpointError, 5: EngineError}


def check_can_import(name: str) -> None:
    """See that a checkpoint can be imported here, before it is downloaded.

    Raises:
        EngineError: a package of the train extra is missing; which.
    """
    for module in _OF_TRAIN:
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            found = None
        if found is None:
            raise EngineError(
                f"{name}: its checkpoint has to be imported and exported once, and {module.partition('.')[0]} is not "
                f"installed here: {how_to_install('train')}, or pull it on another machine and carry the bundle "
                "(docs/models.md); nothing was downloaded"
            )


def import_model(name: str, out: Path, home: Home) -> None:
    """Import an entry's checkpoint, whose files are here, as a checkpoint of ours.

    Raises:
        SignetError: what `signet-train import-model` ended with.
    """
    _run("signet_train", ["import-model", name, "--out", str(out), "--offline"], home)


def import_expert(name: str, out: Path, home: Home) -> None:
    """Import the backbone of an entry's checkpoint, whose files are here, as an expert.

    Raises:
        SignetError: what `signet-train import-expert` ended with.
    """
    _run("signet_train", ["import-expert", name, "--out", str(out), "--offline"], home)


def export(checkpoint: Path, out: Path, home: Home) -> None:
    """Export a checkpoint as a bundle, compared with PyTorch on the way.

    Raises:
        SignetError: what `signet-export` ended with.
    """
    _run("signet_export", [str(checkpoint), "--out", str(out)], home)


def _run(module: str, arguments: list[str], home: Home) -> None:
    # A process of its own: what it takes of memory is free again when it ends, and the runtime stays without PyTorch.
    environment = {**os.environ, HOME_VARIABLE: str(home.path), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _, said = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    if child.returncode == 0:
        return
    lines = [line for line in said.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if ": error: " in line), lines[-1] if lines else "it said nothing")
    kind = _BY_CODE.get(child.returncode, ModelError)
    if child.returncode < 0:
        told = f"the process was ended by signal {-child.returncode}; is there enough memory?"
    raise kind(f"{module.replace('_', '-')} {arguments[0]}: {told.partition(': error: ')[2] or told}")


def place_bundle(files: Mapping[str, Path], out: Path, signed_by: PublicKey | None = None) -> None:
    """Lay out a bundle of a hub's files: as other names of theirs where the disk allows it, else copies.

    Raises:
        BundleError: they are no bundle, or not signed with that key.
    """
    place_files(files, out)
    if signed_by is not None:
        check_signature(out, signed_by)
    Bundle.load(out, verify=True)


def place_files(files: Mapping[str, Path], out: Path) -> None:
    """Put files below a directory by their names.

    Raises:
        OutputError: they cannot be written.
    """
    for name, path in files.items():
        target = out / name
        with reporting(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                os.link(path.resolve(), target)
                continue
            shutil.copyfile(path, target)


def unpack_bundle(archive: Path, out: Path, signed_by: PublicKey | None = None) -> None:
    """Unpack a .signet archive, and check the bundle in it.

    Raises:
        BundleError: it is none, or damaged, or more than one bundle is in it, or it is not signed with that key.
        OutputError: it cannot be written.
        EngineError: zstandard is not installed.
    """
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise EngineError(f"{error.name} is not installed; {how_to_install('hub')}") from error
    with reading(archive.name, BundleError, "an archive of a bundle"):
        unpacked = 0
        with (
            archive.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as plain,
            tarfile.open(fileobj=plain, mode="r|") as packed,
        ):
            for member in packed:
                inside = PurePosixPath(member.name)
                if not member.isfile() or member.issparse() or not is_inside(member.name) or len(inside.parts) < 2:
                    raise BundleError(f"{archive.name}: {member.name!r} has no place in an archive of a bundle")
                unpacked += member.size
                check_limit("unpacked_bytes", unpacked, archive.name, BundleError)
                target = out.joinpath(*inside.parts[1:])  # below a directory of the bundle's name
                if target.exists():
                    raise BundleError(f"{archive.name}: a damaged one, with {member.name!r} twice in it")
                source = packed.extractfile(member)
                assert source is not None  # it is a file
                with reporting(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as to:
                        shutil.copyfileobj(source, to)
    if not (out / MANIFEST_NAME).is_file():
        raise BundleError(f"{archive.name}: no archive of a bundle: it has no {MANIFEST_NAME}")
    if signed_by is not None:
        check_signature(out, signed_by)
    try:
        Bundle.load(out, verify=True)
    except BundleError as error:
        said = str(error).replace(f"{out}{os.sep}", "")
        raise BundleError(f"{archive.name}: the bundle in it is damaged: {said}") from error
