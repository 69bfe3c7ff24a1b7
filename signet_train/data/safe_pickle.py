"""Pickled labels without trusting the pickle: plain containers, strings and numbers, and nothing is ever called."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any, NoReturn

from signet_runtime.errors import InputError

_GZIP = b"\x1f\x8b"


class _RefusedError(Exception):
    pass


class _PlainUnpickler(pickle.Unpickler):
    """Every class and function that a pickle can use, it must first look up by name: none is found."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _RefusedError("a persistent object")


def load_plain_pickle(path: Path) -> Any:
    """What a pickle holds, gzipped or not, if that is dicts, lists, tuples, sets, strings, bytes and numbers only.

    Raises:
        InputError: not readable, not a pickle, damaged, or one that asks for anything else.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if compressed else path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="utf-8").load()
            file.read(1)  # gzip compares its checksum only at the end
            return content
    except _RefusedError as error:
        raise InputError(f"{path}: refused, its pickle asks for {error}, and only plain data may be in it") from error
    except gzip.BadGzipFile as error:
        raise InputError(f"{path}: damaged ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a forged or cut-off pickle can fail in any way
        raise InputError(f"{path}: not a pickle, or a damaged one") from error
