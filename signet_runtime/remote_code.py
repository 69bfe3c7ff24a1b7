"""Code that comes with a model is never run, and nobody is asked whether it may: what names some is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signet_runtime.boundary import read_json
from signet_runtime.errors import SignetError

# By which transformers finds classes in files beside a configuration.
_KEYS = {"auto_map", "custom_pipelines"}
# What transformers reads of a directory, besides weights.
_SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def refuse_remote_code(directory: Path, error: type[SignetError]) -> None:
    """See that no setting in a directory of transformers' names code that lies beside it.

    Raises:
        SignetError: of the class ``error``: one does, or is no JSON.
    """
    for name in _SETTINGS:
        path = directory / name
        if path.exists() or path.is_symlink():
            named = _find(read_json(path, "settings_bytes", error))
            if named is not None:
                raise error(f"{path}: names code of its own ({named}), which is never run; get the model without it")


def _find(content: Any) -> str | None:
    waiting = [content]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if named := sorted(_KEYS & found.keys()):
                return named[0]
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
    return None
