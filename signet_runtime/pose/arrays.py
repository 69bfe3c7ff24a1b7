"""Arrays that numpy saved, by others: the header is believed only as far as the file's length bears it out."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Container
from typing import BinaryIO

import numpy as np

from signet_runtime.errors import InputError
from signet_runtime.limits import check_limit

# Of the formats before 3.0, which is for names of fields beyond latin1.
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_KINDS = "fiub"
_MOST_TEXT = 4 * 5000  # bytes: nothing that is said in a keypoint file is longer than a path


def read_array(file: BinaryIO, length: int, kinds: str = _KINDS) -> np.ndarray:
    """Return the array of a ``.npy`` file.

    Args:
        file: read from where it is.
        length: of the file from there, in bytes.
        kinds: of its numbers, as in `numpy.dtype.kind`.

    Raises:
        InputError: not an array of these kinds, or more is declared than the file has, or than a clip has.
        ValueError: not a ``.npy`` file.
    """
    reader = _HEADERS.get(np.lib.format.read_magic(file))
    if reader is None:
        raise InputError("an array in a version of numpy's format that plain numbers do not need")
    shape, fortran, dtype = reader(file)
    longest = _MOST_TEXT if dtype.kind == "U" else 8
    whole = all(type(n) is int and n >= 0 for n in shape)
    if dtype.kind not in kinds or dtype.itemsize > longest or not whole or len(shape) > 8:
        raise InputError("not an array of numbers")
    size = math.prod(shape) * dtype.itemsize
    check_limit("keypoint_bytes", size, "", InputError)
    if size > length:
        raise InputError(f"it declares an array of {size} bytes, and there are {length}")
    content = file.read(size)
    if len(content) != size:
        raise InputError(f"it declares an array of {size} bytes, and there are {len(content)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def read_arrays(file: BinaryIO, names: Container[str]) -> dict[str, np.ndarray]:
    """Return those arrays of a ``.npz`` file that are called so, without ``.npy``; texts may be among them.

    Raises:
        InputError: as `read_array`, or several of one name.
        Exception: anything, of a damaged archive.
    """
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        wanted = [(m.filename.removesuffix(".npy"), m) for m in archive.infolist()]
        wanted = [(name, member) for name, member in wanted if name in names]
        check_limit("keypoint_bytes", sum(member.file_size for _, member in wanted), "", InputError)
        for name, member in wanted:
            if name in found:
                raise InputError(f"two arrays are called {name!r}")
            with archive.open(member) as content:
                found[name] = read_array(content, member.file_size, _KINDS + "U")  # type: ignore[arg-type]
    return found
