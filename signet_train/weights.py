"""Files of weights from strangers: nothing in them runs, and what they declare is held against what is there."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from signet_runtime.boundary import open_regular, reading
from signet_runtime.errors import CheckpointError, one_line
from signet_runtime.printable import printable

_DTYPES = {
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
}
_ALIGNED = 64  # bytes that lie between two storages


def read_weights(path: Path, expected: Mapping[str, Tensor], others: Iterable[str] = ()) -> dict[str, Tensor]:
    """Read a safetensors file of known tensors.

    Args:
        expected: names and shapes, as tensors that may be on the meta device.
        others: names that may be there, and are left out.

    Returns:
        Names and tensors, as stored.

    Raises:
        CheckpointError: not readable, damaged, or a tensor that is missing, unknown, or of another shape (named).
    """
    with open_regular(path, CheckpointError, "weights"):  # which safetensors opens anew, by its name
        pass
    with reading(path, CheckpointError, "weights"), safe_open(path, framework="pt") as file:
        there = set(file.keys()) - set(others)
        check_names(path, there, expected)
        for name in sorted(there):
            shape = tuple(file.get_slice(name).get_shape())
            _check_shape(path, name, shape, expected[name])
        return {name: file.get_tensor(name) for name in there}


def check_names(path: Path, there: set[str], expected: Mapping[str, Tensor], same: Iterable[str] = ()) -> None:
    """See that a file has the tensors that are expected.

    Args:
        same: names that may be absent, as another's tensor is theirs.

    Raises:
        CheckpointError: one is missing or unknown (named).
    """
    for name in sorted((expected.keys() - set(same)) ^ (there - set(same))):
        state = "missing" if name in expected else "not of this model"
        raise CheckpointError(f"{path}: the tensor {printable(name)} is {state}")


def check_shapes(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """See that tensors have the shapes that are expected.

    Raises:
        CheckpointError: one has another (named).
    """
    for name, tensor in tensors.items():
        _check_shape(path, name, tuple(tensor.shape), expected[name])


def _check_shape(path: Path, name: str, shape: tuple[int, ...], like: Tensor) -> None:
    if shape != tuple(like.shape):
        raise CheckpointError(f"{path}: {name} has the shape {shape}, and its configuration states {tuple(like.shape)}")


def read_pickled(path: Path, mapped: bool = True) -> Any:
    """Read what `torch.save` wrote, without running anything that is in it.

    Args:
        mapped: tensors stay in the file until they are looked at.

    Returns:
        Containers and plain tensors, none of which is larger than what the file has of it.

    Raises:
        CheckpointError: not there, not readable, damaged, or anything else in it.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    with open_regular(path, CheckpointError, "a checkpoint") as file:
        zipped = zipfile.is_zipfile(file)
        if zipped:
            _refuse_packed(path)
    with reading(path, CheckpointError, "a checkpoint"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipped)
        except pickle.UnpicklingError as error:
            asked = re.search(r"GLOBAL (\S+)", str(error))
            if asked is None:
                raise
            told = f"it asks for {printable(asked[1])}, and only weights may be in it"
            raise CheckpointError(f"{path}: refused, {told}") from error
        except AssertionError as error:  # PyTorch's, about what is in the file
            raise ValueError(one_line(error)) from error
        except MemoryError as error:  # as a length of gigabytes in a file of bytes asks for
            size = path.stat().st_size
            raise CheckpointError(f"{path}: its {size:,} bytes ask for more memory than there is") from error
        _refuse_others(path, content)
        return content


def _refuse_packed(path: Path) -> None:
    """PyTorch never compresses: what is declared longer than the file is a bomb, or damaged."""
    with zipfile.ZipFile(path) as archive:
        declared = sum(member.file_size for member in archive.infolist())
    if declared > path.stat().st_size:
        raise CheckpointError(f"{path}: refused, {declared:,} bytes are declared in a file of {path.stat().st_size:,}")


def _refuse_others(path: Path, content: Any) -> None:
    """See that all tensors are plain ones, no larger than what is stored of them."""
    waiting, seen = [content], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, (list, tuple, set)):
            waiting += found
        elif isinstance(found, Tensor):
            plain = found.layout == torch.strided and found.device.type == "cpu" and not found.is_quantized
            if not plain or found.dtype not in _DTYPES:
                raise CheckpointError(f"{path}: refused, a tensor of {found.dtype}, {found.layout}, on {found.device}")
            if found.numel() * found.element_size() > found.untyped_storage().nbytes():
                raise CheckpointError(
                    f"{path}: refused, a tensor of {tuple(found.shape)} is larger than what is stored"
                )
