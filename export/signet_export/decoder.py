"""The mT5 decoders through Optimum: one for the first token, one for every later token with its cache.

Nearly all that the two graphs hold is the same, so their weights lie in one file beside them, each once. The exporter
keeps several copies of a model in memory; what is most of mT5, the two tables of its vocabulary, it never sees: it is
given tables of a few rows, and the real ones go from the model to the file.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import torch
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, set_external_data, uses_external_data
from torch import Tensor
from transformers import MT5ForConditionalGeneration, PreTrainedTokenizerBase

from signet_export.vocabulary import with_tables
from signet_runtime.errors import BundleError, OutputError

DECODER, DECODER_WITH_PAST = "decoder_model.onnx", "decoder_with_past_model.onnx"
DECODER_DATA = "decoder.onnx_data"

_STAND_IN_ROWS = 16
_KEPT_INLINE = 1024  # bytes: below, a tensor stays in its graph, where shape inference finds it
_CHUNK = 1 << 26  # bytes written at a time
# What is large is mapped, not read, where it begins at a multiple of what the system maps; Windows' is the coarsest.
_LARGE, _MAPPED = 1 << 20, 1 << 16
_ALIGNED = 64


def export_decoders(
    language_model: MT5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, directory: Path
) -> None:
    """Write both decoders and their weights, the model's and generation's configuration and the tokenizer.

    Apart, not merged: the merged graph hides the two behind an ``If``, which TensorRT's compiler refuses.

    Raises:
        OutputError: the disk of ``directory`` has less space than `disk_needed`.
        OSError: the files cannot be written.
    """
    needed, free = disk_needed(language_model), shutil.disk_usage(directory).free
    if free < needed:
        raise OutputError(
            f"{directory}: the decoders need {needed / 1e9:.2f} GB of disk and {free / 1e9:.2f} GB are free; "
            "free some, or give another disk"
        )
    # Beside what it becomes: a system's own directory for temporary files is often memory.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".decoders-") as scratch:
        small, tables = _with_stand_ins(language_model)
        graphs = _trace(small, Path(scratch))
        share_weights(graphs, directory, tables=tables)
    for name in (DECODER, DECODER_WITH_PAST):
        _declare_vocabulary(directory / name, language_model.config.vocab_size)
    config = copy.deepcopy(language_model.config)
    # What `save_pretrained` of a model, which would write its weights too, adds.
    config.architectures, config.dtype = [type(language_model).__name__], language_model.dtype
    config.use_cache = True
    config.save_pretrained(directory)
    if language_model.generation_config is not None:
        language_model.generation_config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def disk_needed(language_model: MT5ForConditionalGeneration) -> int:
    """Return the bytes of disk that `export_decoders` works in: the weights, and both traced graphs without tables."""
    tables = _bytes(language_model.get_input_embeddings().weight) + _bytes(language_model.lm_head.weight)
    layers = sum(_bytes(p) for name, p in language_model.decoder.named_parameters() if "embed_tokens" not in name)
    return tables + 3 * layers + (64 << 20)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _with_stand_ins(
    language_model: MT5ForConditionalGeneration,
) -> tuple[MT5ForConditionalGeneration, dict[bytes, Tensor]]:
    """Return the model with tables of a few rows, and what to write for them: digest of a stand-in -> the real table.

    The exporter writes a table as it is or transposed; it is known by its values, whatever its name has become.
    """
    tables, stand_ins, digests = (language_model.get_input_embeddings().weight, language_model.lm_head.weight), [], {}
    for i, table in enumerate(tables):
        count = _STAND_IN_ROWS * table.shape[1]
        stand_in = torch.linspace(i, i + 1, count, dtype=table.dtype).view(_STAND_IN_ROWS, -1)
        stand_ins.append(stand_in)
        for small, real in ((stand_in, table.detach()), (stand_in.t(), table.detach().t())):
            digests[_digest(small.contiguous().numpy())] = real
    return with_tables(language_model, *stand_ins), digests


def _trace(model: MT5ForConditionalGeneration, directory: Path) -> list[Path]:
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager
    from optimum.exporters.utils import get_encoder_decoder_models_for_export

    # The exporters report to stdout and warn about every traced comparison; results own stdout.
    for noisy in ("optimum", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    model.config.use_cache = True
    paths = []
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constructor = TasksManager.get_exporter_config_constructor(
            exporter="onnx", model=model, task="text2text-generation-with-past", library_name="transformers"
        )
        parts = get_encoder_decoder_models_for_export(model, constructor(model.config))
        # Optimum's own text encoder is left out: encoder.onnx takes its place.
        for name in (DECODER, DECODER_WITH_PAST):
            part, config = parts[Path(name).stem]
            export(part, config, directory / name)
            paths.append(directory / name)
    return paths


def share_weights(
    graphs: Iterable[Path], directory: Path, data: str = DECODER_DATA, tables: Mapping[bytes, Tensor] | None = None
) -> None:
    """Write the graphs, under their own names, into ``directory``, and their weights, equal ones once, into one file.

    Weights of a kilobyte and more are moved; of the rest the graphs keep a copy each. One graph is in memory at a time.

    Args:
        graphs: ONNX files elsewhere, with or without external data; they are left as they are.
        data: name of the file of weights.
        tables: SHA-256 of a weight's bytes -> the matrix that takes its place, whatever its size.

    Raises:
        FileExistsError: a file to be written is there already.
        OSError: they cannot be written.
        BundleError: a stand-in of ``tables`` is in none of the graphs, as written or transposed.
    """
    places: dict[bytes, tuple[int, int]] = {}  # digest -> offset, length
    replaced: set[int] = set()
    with (directory / data).open("xb") as file:
        for path in graphs:
            model = onnx.load(path, load_external_data=False)
            for tensor in model.graph.initializer:
                contents = _contents(tensor, path.parent)
                if contents is None:
                    continue
                digest = _digest(contents)
                table = tables.get(digest) if tables is not None else None
                if table is None and contents.nbytes < _KEPT_INLINE and not uses_external_data(tensor):
                    continue
                if digest not in places:
                    places[digest] = _append_matrix(file, table) if table is not None else _append(file, contents)
                if table is not None:
                    tensor.dims[:] = table.shape
                    replaced.add(table.data_ptr())
                _point_to(tensor, data, *places[digest])
            with (directory / path.name).open("xb") as graph:
                graph.write(model.SerializeToString())
    missing = {table.data_ptr() for table in (tables or {}).values()} - replaced
    if missing:
        raise BundleError(f"{directory}: the exported decoders lack {len(missing)} of the vocabulary's tables")


def _contents(tensor: TensorProto, directory: Path) -> np.ndarray | None:
    """Return a tensor's bytes, uint8; None of the few that are stored as a list of numbers and not as bytes."""
    if uses_external_data(tensor):
        info = ExternalDataInfo(tensor)
        if not info.length:
            return None
        return np.memmap(directory / info.location, np.uint8, "r", info.offset or 0, (info.length,))
    return np.frombuffer(tensor.raw_data, np.uint8) if tensor.HasField("raw_data") else None


def _digest(contents: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(contents).data).digest()


def _append(file: BinaryIO, contents: np.ndarray) -> tuple[int, int]:
    offset = _align(file, contents.nbytes)
    for start in range(0, contents.nbytes, _CHUNK):
        file.write(contents[start : start + _CHUNK].data)
    return offset, contents.nbytes


def _append_matrix(file: BinaryIO, matrix: Tensor) -> tuple[int, int]:
    """Append a matrix, which may be a transposed view and is never copied whole; gives its offset and size."""
    offset = _align(file, _bytes(matrix))
    rows = max(1, _CHUNK // (matrix.shape[1] * matrix.element_size()))
    for part in matrix.split(rows):
        file.write(part.cpu().contiguous().numpy().data)
    return offset, _bytes(matrix)


def _align(file: BinaryIO, size: int) -> int:
    step = _MAPPED if size >= _LARGE else _ALIGNED
    file.write(bytes(-file.tell() % step))
    return file.tell()


def _point_to(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    tensor.raw_data = b""  # set_external_data wants the field to be there
    set_external_data(tensor, location, offset, length)
    tensor.ClearField("raw_data")


def _declare_vocabulary(path: Path, size: int) -> None:
    model = onnx.load(path, load_external_data=False)
    (logits,) = (output for output in model.graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[-1].dim_value = size
    path.write_bytes(model.SerializeToString())
