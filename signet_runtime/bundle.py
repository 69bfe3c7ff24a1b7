"""The bundle: a directory with `signet.json` and the files it names, each with size and SHA-256.

A bundle exists whole or not at all: `new_bundle` builds it beside its destination and renames it. Sizes are
checked at every load; contents at first use and whenever asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from signet_runtime.boundary import open_regular, read_json, reading
from signet_runtime.bundle_contents import check_contents, refuse_unlisted
from signet_runtime.directories import recover_directory, whole_directory
from signet_runtime.errors import BundleError, EngineError
from signet_runtime.limits import check_limit
from signet_runtime.printable import is_printable
from signet_runtime.regions import LONG_CLIPS, NORMALISATIONS
from signet_runtime.remembered import remember_verified, trust, was_verified

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "signet.json"
_CHECKS = b"2\0"  # which ones a bundle that was found right has passed; another number has it checked again


class EngineKind(NamedTuple):
    """A kind of engine.

    choice: what it is asked for by; kinds may share one, of which a bundle's first is taken. module: the one of
    `signet_runtime.engines` whose ``load`` loads it. portable: whether it runs anywhere; others say in an `EngineBuild`
    what they are bound to.
    """

    choice: str
    module: str
    portable: bool


ENGINE_KINDS = {
    "onnx": EngineKind("onnx", "onnx", portable=True),
    "tensorrt": EngineKind("trt", "tensorrt_model", portable=False),
    "tensorrt-rtx": EngineKind("trt", "tensorrt_model", portable=False),
}
ENGINE_CHOICES = tuple(dict.fromkeys(kind.choice for kind in ENGINE_KINDS.values()))


class _Part(BaseModel):
    # A field that this version does not know could change the result, so it is an error, not ignored.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expert(_Part):
    """One frozen backbone and what it was trained on."""

    name: str
    sign_languages: list[str]  # ISO 639-3, e.g. "csl"
    corpus: str


class Routing(_Part):
    """How experts are chosen; both are constants of the encoder's graph."""

    mode: Literal["topk", "dense", "pinned"] = "topk"
    k: Annotated[int, Field(ge=1)]


class Generation(_Part):
    """Defaults of the search; everything else comes from the bundle's `generation_config.json`."""

    num_beams: Annotated[int, Field(ge=1)] = 4
    max_new_tokens: Annotated[int, Field(ge=1)] = 100


class ShapeRange(_Part):
    """The shapes that an engine is built for: inside them it runs, outside them it refuses.

    Attributes:
        frames: of a clip, fewest, most likely and most.
        clips: most in one batch of the encoder.
        beams: of the search; the decoders' batch is at most clips times beams.
        tokens: most that are written.
        prompt: positions that the encoder puts before the frames.
    """

    frames: tuple[int, int, int] = (1, 128, 512)
    clips: Annotated[int, Field(ge=1)] = 1
    beams: Annotated[int, Field(ge=1)] = 4
    tokens: Annotated[int, Field(ge=1)] = 100
    prompt: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _is_ordered(self) -> ShapeRange:
        fewest, likely, most = self.frames
        if not 1 <= fewest <= likely <= most:
            raise ValueError(f"frames {fewest}, {likely}, {most} are not fewest, most likely and most")
        return self


class EngineBuild(_Part):
    """What a TensorRT engine is bound to: the version of its library, one kind of GPU, and the shapes it takes."""

    version: str  # of the library, exactly
    target: Annotated[str, Field(pattern=r"^sm[0-9]{2,3}$")]  # compute capability, "sm86" is 8.6
    # Called profiles, as TensorRT calls them, in `signet.json`.
    shapes: ShapeRange = Field(validation_alias=AliasChoices("profiles", "shapes"), serialization_alias="profiles")
    executed: bool  # False: built where there was no such GPU, so it is checked where it first runs


class Engine(_Part):
    """One way to run the model.

    Attributes:
        encoder, decoder, decoder_with_past: names of files in the bundle.
        features: of another, the experts, where ``encoder`` is what comes after them; None: it is both.
        reach: how many frames before and after it a frame's features depend on.
    """

    kind: Literal[tuple(ENGINE_KINDS)]  # type: ignore[valid-type]
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    encoder: str
    decoder: str
    decoder_with_past: str
    features: str | None = None
    reach: Annotated[int, Field(ge=1)] | None = None
    build: EngineBuild | None = None  # None where it is portable

    @model_validator(mode="after")
    def _is_bound_or_portable(self) -> Engine:
        if ENGINE_KINDS[self.kind].portable != (self.build is None):
            raise ValueError(f"an engine of kind {self.kind} must {'not ' if self.build else ''}say how it was built")
        if (self.features is None) != (self.reach is None):
            raise ValueError("features and their reach go together")
        if self.features is not None and self.kind != "onnx":
            raise ValueError(f"an engine of kind {self.kind} has no features apart")
        return self

    @property
    def files(self) -> list[str]:
        """Names of its files."""
        apart = [] if self.features is None else [self.features]
        return [*apart, self.encoder, self.decoder, self.decoder_with_past]


class FileRecord(_Part):
    """What a file must be."""

    size: Annotated[int, Field(ge=0)]  # bytes
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(_Part):
    """The contents of `signet.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    language: str  # of the text that is written, BCP 47; "mul" for several
    notice: str | None = None  # what a user must know before trusting the text; shown when the bundle is used
    experts: Annotated[list[Expert], Field(min_length=1)]
    routing: Routing
    # See regions.py. Called profile in `signet.json`.
    normalisation: Literal[NORMALISATIONS] = Field(  # type: ignore[valid-type]
        validation_alias=AliasChoices("profile", "normalisation"), serialization_alias="profile"
    )
    pose_estimator: str  # that the model was trained on
    frame_rate: Annotated[float, Field(gt=0)] | None = None  # the model's clock; None takes the video's own
    max_frames: Annotated[int, Field(ge=1)] = 256
    # Which frames of longer clips. The default is not written: packages from before there was a choice load it, too.
    long_clips: Literal[LONG_CLIPS] = Field(  # type: ignore[valid-type]
        default="sampled", exclude_if=lambda chosen: chosen == "sampled"
    )
    generation: Generation = Generation()
    engines: Annotated[list[Engine], Field(min_length=1)]
    created_with: dict[str, str] = {}  # package -> version
    files: dict[str, FileRecord] = {}  # relative path with forward slashes -> what the file must be

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        if self.routing.k > len(self.experts):
            raise ValueError(f"routing.k is {self.routing.k} but there are {len(self.experts)} experts")
        if len({expert.name for expert in self.experts}) < len(self.experts):
            raise ValueError("two experts have the same name")
        # Whatever else is in the bundle is compared with it, and it is what runs when nothing else was asked for.
        if self.engines[0].kind != "onnx":
            raise ValueError("the first engine is not of kind onnx")
        for name in self.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
                raise ValueError(f"the path {name!r} leaves the bundle")
            if not is_printable(name) or len(name) > 1000:
                raise ValueError(f"the path {ascii(name)[:100]} is no name of a file")
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk that has been checked.

    Attributes:
        path: the directory.
        manifest: its `signet.json`.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: str | Path | None = None, *, verify: bool = False) -> Bundle:
        """Read and check a bundle.

        Args:
            path: its directory; None is the demonstration that comes with the package.
            verify: compare the contents of all files with their hashes even if that was done before.

        Raises:
            BundleError: missing, damaged, or of a schema version that this package does not know.
        """
        directory = demo_bundle_path() if path is None else Path(path)
        if path is None and not directory.is_dir():
            raise BundleError(
                f"{directory}: the demonstration is not installed; install signet-slt again, or give a bundle"
            )
        if _is_file(directory):
            raise BundleError(
                f"{directory}: not a bundle but a file, and a bundle is a directory; if signet-export --archive wrote "
                f"it, `tar --zstd -xf {directory}` unpacks it into the directory to give"
            )
        bundle = cls(directory, read_manifest(directory))
        for engine in bundle.manifest.engines:
            for name in engine.files:
                bundle.file(name)
        stamp = bundle._check_sizes()
        if verify or not was_verified(stamp):
            bundle._check_hashes()
            check_contents(bundle.path, bundle.manifest.files.keys())
            remember_verified(stamp)
        return bundle

    def engine(self, kind: str = "onnx", precision: str | None = None) -> Engine:
        """Return the first engine of a kind, or of one of `ENGINE_CHOICES`, and of a precision where one is given.

        Raises:
            EngineError: there is none; no other takes its place.
        """
        for engine in self.manifest.engines:
            if kind in (engine.kind, ENGINE_KINDS[engine.kind].choice) and precision in (None, engine.precision):
                return engine
        present = ", ".join(f"{engine.kind} {engine.precision}" for engine in self.manifest.engines)
        wanted = f"{kind} {precision}" if precision else kind
        raise EngineError(f"{self.path}: has no {wanted} engine but {present}; ask for one of these or export again")

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest lists.

        Raises:
            BundleError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path / MANIFEST_NAME}: does not list the file {name!r}; export the bundle again")
        return self.path / name

    def trust_engines(self) -> None:
        """Let this user run the engines that are bound to a GPU, from now on: they are code, and can do anything."""
        for engine in self.manifest.engines:
            for name in engine.files if not ENGINE_KINDS[engine.kind].portable else []:
                trust(self.manifest.files[name].sha256)

    def _check_sizes(self) -> str:
        """Check that every file is there with its size; return a stamp that changes when a file is touched."""
        refuse_unlisted(self.path, MANIFEST_NAME, self.manifest.files.keys())
        with reading(self.path, BundleError, "a bundle"):
            root = self.path.resolve()
            # The change time cannot be set back as the modification time can.
            stamp = hashlib.sha256(_CHECKS + str(root).encode(errors="surrogateescape"))
            stamp.update((self.path / MANIFEST_NAME).read_bytes())
        for name, record in self.manifest.files.items():
            path = self.path / name
            with reading(path, BundleError, "a file"):
                try:
                    status = path.stat()
                except (FileNotFoundError, NotADirectoryError):
                    raise BundleError(f"{path}: missing from the bundle; copy or export the bundle again") from None
                if not stat.S_ISREG(status.st_mode):
                    raise BundleError(f"{path}: no file; copy or export the bundle again")
                if not path.resolve().is_relative_to(root):
                    raise BundleError(f"{path}: points outside the bundle; copy the file itself into it")
            if status.st_size != record.size:
                raise BundleError(
                    f"{path}: has {status.st_size} bytes, the bundle was made with {record.size}; "
                    "copy or export the bundle again"
                )
            stamp.update(f"{name}\0{status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}\0".encode())
        return stamp.hexdigest()

    def _check_hashes(self) -> None:
        for name, record in self.manifest.files.items():
            with open_regular(self.path / name, BundleError) as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            if sha256 != record.sha256:
                raise BundleError(
                    f"{self.path / name}: damaged, its contents differ from when the bundle was made; "
                    "copy or export the bundle again"
                )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def demo_bundle_path() -> Path:
    """Return the directory of the demonstration bundle that the package carries."""
    return Path(__file__).parent / "demo"


def refuse_taken(path: Path, *, overwrite: bool) -> None:
    """See that a bundle may be written at ``path``; for whoever works long before it is.

    Raises:
        BundleError: ``path`` exists and ``overwrite`` was not asked for, or is not a bundle to overwrite, or no name.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise BundleError(f"{path}: not a name in UTF-8, which ONNX's files need; choose another name") from error
    if path.exists():
        if not overwrite:
            raise BundleError(f"{path}: exists already; choose another name, or overwrite it with --force")
        # Overwriting removes a whole directory: never one that is something else.
        if not (path / MANIFEST_NAME).is_file() and (not path.is_dir() or any(path.iterdir())):
            raise BundleError(f"{path}: is not a bundle and will not be overwritten; choose another name")


@contextlib.contextmanager
def new_bundle(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Build a bundle so that it exists whole or not at all.

    Yields an empty directory beside ``path``. Write the files into it, then call `write_manifest`; it takes
    the name ``path`` when the block ends, and is removed when the block raises.

    Raises:
        BundleError: ``path`` exists and ``overwrite`` was not asked for, or is not a bundle to overwrite,
            or the block ended without a manifest.
    """
    path = Path(path)
    refuse_taken(path, overwrite=overwrite)
    try:
        with whole_directory(path, replace=overwrite) as draft:
            yield draft
            if not (draft / MANIFEST_NAME).is_file():
                raise BundleError(f"{path}: no manifest was written, so there is no bundle")
    except FileExistsError as error:
        if error.filename != str(path):
            raise
        raise BundleError(
            f"{path}: exists by now, another process wrote it; choose another name, or overwrite it with --force"
        ) from None


def write_manifest(directory: Path, manifest: Manifest) -> Manifest:
    """Record every file below ``directory`` in ``manifest`` and write it as `signet.json`."""
    files = {}
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory).as_posix()
        if file.is_file() and name != MANIFEST_NAME:
            with file.open("rb") as contents:
                sha256 = hashlib.file_digest(contents, "sha256").hexdigest()
            files[name] = FileRecord(size=file.stat().st_size, sha256=sha256)
    manifest = Manifest.model_validate({**manifest.model_dump(), "files": files})
    (directory / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2, by_alias=True) + "\n", encoding="utf-8")
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """Read the `signet.json` of a directory, and check nothing else of it.

    Raises:
        BundleError: it is missing, damaged, or of a schema version that this package does not know.
    """
    path = directory / MANIFEST_NAME
    with reading(directory, BundleError, "a bundle"):
        recover_directory(directory)
        if not directory.exists():
            raise BundleError(f"{directory}: no such bundle; give the directory that signet-export wrote")
        if not path.exists() and not path.is_symlink():
            raise BundleError(f"{directory}: not a bundle, it has no {MANIFEST_NAME}")
    contents = read_json(path, "settings_bytes", BundleError, "valid JSON", "copy or export the bundle again")
    # Before anything else: another version may differ in every other field.
    version = contents.get("schema_version") if isinstance(contents, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version {version!r}, this signet-slt reads version {SCHEMA_VERSION}; "
            "install the signet-slt that made the bundle, or export it again with this one"
        )
    with reading(path, BundleError, "a bundle's manifest", "export the bundle again"):
        manifest = Manifest.model_validate(contents)
    _check_limits(path, manifest)
    return manifest


def _check_limits(path: Path, manifest: Manifest) -> None:
    """See that a manifest asks for no more than what is taken, and says no more than can be shown."""
    where = str(path)
    check_limit("beams", manifest.generation.num_beams, where, BundleError)
    check_limit("tokens", manifest.generation.max_new_tokens, where, BundleError)
    check_limit("frames", manifest.max_frames, where, BundleError)
    if manifest.frame_rate is not None:
        check_limit("rate_low", manifest.frame_rate, where, BundleError)
        check_limit("rate_high", manifest.frame_rate, where, BundleError)
    for text in (manifest.name, manifest.language, manifest.notice or "", *(e.name for e in manifest.experts)):
        check_limit("text_length", len(text), where, BundleError)
