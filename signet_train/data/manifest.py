"""The one table that every stage reads: a row a sample, as Parquet or JSON lines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from signet_runtime.errors import InputError, OutputError, first_line
from signet_runtime.files import reporting, whole_file


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Row:
    """One sample.

    Attributes:
        id: unique in its manifest, and safe as a file name.
        split: ``train``, ``dev``, ``test``, or a name of one's own.
        poses: where the keypoints lie: a file that `signet_runtime.pose.files.read_keypoints` reads, or a clip of a
            pose store (``poses.arrow#ID``), relative to the manifest's directory or absolute; or ``spell://…`` (see
            `signet_train.data.spelled.corpus`).
        text: the sentence, the target of translation.
        language: of the text, BCP 47 (``de``, ``zh``).
        sign_language: ISO 639-3 (``gsg``, ``csl``, ``ase``, ``bfi``).
        video: the recording, or a directory of its frames; relative to the manifest's directory or absolute.
        fps: frames a second of a directory of frames; a video file knows its own.
        start, end: seconds in ``video`` that the sample takes; None for all of it. ``poses`` holds no more than that.
        signer: who signs, where the corpus says.
        gloss: the signs' labels, the target of recognition.
        corpus: the published corpus that the row is from (``csl-daily``, ``how2sign``, ``wlasl``); an expert that was
            trained on it is refused as an expert for it. None: nobody published it, or nothing is said.
    """

    id: str
    split: str
    poses: str
    text: str
    language: str
    sign_language: str
    video: str | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    signer: str | None = None
    gloss: str | None = None
    corpus: str | None = None


@dataclass(frozen=True, slots=True, config=ConfigDict(arbitrary_types_allowed=True))
class Manifest:
    """Rows, and the directory that their relative paths start from."""

    rows: list[Row]
    root: Path

    def split(self, name: str) -> list[Row]:
        """Return the rows of one split, in the manifest's order."""
        return [row for row in self.rows if row.split == name]


_ROWS = TypeAdapter(list[Row])
_SCHEMA = pa.schema(
    [(f.name, pa.float64() if f.name in ("fps", "start", "end") else pa.string()) for f in dataclasses.fields(Row)]
)


def read_manifest(path: Path) -> Manifest:
    """Read ``.parquet`` or ``.jsonl``.

    Raises:
        InputError: no such file, another suffix, damaged, or a row that is not a `Row` (named by its number).
    """
    try:
        if path.suffix == ".parquet":
            with open(path, "rb") as file:  # by its path, a directory would be a data set without rows
                records = pq.read_table(file).to_pylist()
        elif path.suffix == ".jsonl":
            records = _read_lines(path)
        else:
            raise InputError(f"{path}: a manifest is a .parquet or .jsonl file")
        return Manifest(_ROWS.validate_python(records), path.resolve().parent)
    except FileNotFoundError:
        raise InputError(f"{path}: no such manifest; `signet-train manifest` makes one") from None
    except ValidationError as error:
        first = error.errors()[0]
        number, *field = first["loc"]
        raise InputError(f"{path}: row {int(number) + 1}: {'.'.join(map(str, field))}: {first['msg']}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a manifest, or a damaged one ({first_line(error)})") from error


def _read_lines(path: Path) -> list[object]:
    records: list[object] = []
    with open(path, encoding="utf-8") as file:  # str.splitlines would also split at U+2028
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    records.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{path}: line {number}: not JSON ({error})") from None
    return records


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write ``.parquet`` or ``.jsonl``, whole or not at all.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    records = [dataclasses.asdict(row) for row in rows]
    failure = "cannot be written ({})"
    with reporting(path, failure):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, failure) as temporary:
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(records, _SCHEMA), temporary, compression="zstd")
        elif path.suffix == ".jsonl":
            lines = (json.dumps({k: v for k, v in r.items() if v is not None}, ensure_ascii=False) for r in records)
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        else:
            raise OutputError(f"{path}: a manifest is a .parquet or .jsonl file")


def read_manifests(paths: Sequence[Path]) -> list[Manifest]:
    """Read several manifests as one corpus (the paper's BSL expert combines three).

    Raises:
        InputError: as `read_manifest`; or an id that occurs twice, in one manifest or in two.
    """
    manifests = [read_manifest(path) for path in paths]
    seen: dict[str, Path] = {}
    for path, manifest in zip(paths, manifests, strict=True):
        for row in manifest.rows:
            if row.id in seen:
                raise InputError(f"{path}: the id {row.id!r} occurs twice ({seen[row.id]} has it already)")
            seen[row.id] = path
    return manifests
