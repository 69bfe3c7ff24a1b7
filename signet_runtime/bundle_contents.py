"""A bundle is what its manifest says and nothing else: what lies there, and what its files refer to."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

from signet_runtime.boundary import read_json, reading
from signet_runtime.errors import BundleError
from signet_runtime.onnx_file import references
from signet_runtime.remote_code import refuse_remote_code

SIGNATURE = "signet.json.minisig"

# Nothing loads these, and people and hubs add them.
_DOCUMENTS = re.compile(r"(README|LICEN[CS]E|NOTICE|COPYING|CHANGELOG)([._-].*)?", re.IGNORECASE)
_CODE = {".py", ".pyc", ".so", ".dll", ".dylib", ".pyd"}
_ADVICE = "export the bundle again"

# Which of transformers' classes may be asked for: those of mT5.
_CLASSES: dict[str, tuple[str, set[str | None]]] = {
    "config.json": ("model_type", {"mt5", "t5"}),
    "tokenizer_config.json": (
        "tokenizer_class",
        {"T5Tokenizer", "T5TokenizerFast", "MT5Tokenizer", "MT5TokenizerFast", None},
    ),
}


def refuse_unlisted(directory: Path, manifest: str, listed: Collection[str]) -> None:
    """See that nothing lies in a bundle that its manifest does not list, and that could be loaded.

    Documents, hidden files, which a hub's client leaves, and a signature may.

    Raises:
        BundleError: something else does.
    """
    with reading(directory, BundleError, "a bundle"):
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(directory / folder) as entries:
                for entry in entries:
                    name = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting += [] if entry.name.startswith(".") else [f"{name}/"]
                    elif name not in listed and name not in (manifest, SIGNATURE) and not _is_document(entry):
                        raise BundleError(
                            f"{directory / name}: lies in the bundle, and its manifest does not list it; remove it, or "
                            f"{_ADVICE}"
                        )


def _is_document(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith("."):
        return True
    return _DOCUMENTS.fullmatch(entry.name) is not None and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)


def check_contents(directory: Path, listed: Collection[str]) -> None:
    """See that a bundle's files refer to listed ones alone, and to no code: what takes reading them, once.

    Raises:
        BundleError: a graph names a file that the manifest does not list, or an operator that ONNX Runtime does not
            have; a setting names code, or a class that is none of mT5's; or a file is code.
    """
    for name in listed:
        if Path(name).suffix.lower() in _CODE:
            raise BundleError(f"{directory / name}: is code, and nothing in a bundle is")
        if name.endswith(".onnx"):
            _check_graph(directory, name, listed)
    refuse_remote_code(directory, BundleError)
    for name, (key, allowed) in _CLASSES.items():
        if name in listed:
            content: Any = read_json(directory / name, "settings_bytes", BundleError, advice=_ADVICE)
            asked = content.get(key) if isinstance(content, dict) else content
            if not (asked is None or isinstance(asked, str)) or asked not in allowed:
                raise BundleError(f"{directory / name}: its {key} is {ascii(asked)[:60]}, and not mT5's; {_ADVICE}")


def _check_graph(directory: Path, name: str, listed: Collection[str]) -> None:
    found = references(directory / name)
    for location in sorted(found.files):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), location))
        if path not in listed or "\\" in location:
            raise BundleError(
                f"{directory / name}: its weights are in {ascii(location)[:100]}, which the manifest does not list; "
                f"{_ADVICE}"
            )
    if found.operators:
        named = ", ".join(sorted(found.operators)[:3])
        raise BundleError(f"{directory / name}: takes operators that ONNX Runtime does not have: {named}; {_ADVICE}")
