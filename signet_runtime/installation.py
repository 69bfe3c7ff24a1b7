"""How a part of this package that is missing is installed: from where this installation came."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = "signet-slt"


def how_to_install(extra: str) -> str:
    """Return the command that adds an extra (``edge``, ``train``): of the clone or the wheel that is installed here.

    No registry has the package, so its name alone would not do; where nothing is known, a wheel is asked for.
    """
    place = _origin() or _clone()
    if place is None:
        return f"pip install 'PATH_OF_THE_WHEEL[{extra}]'"
    if place.is_dir():
        return f"pip install -c '{place / 'constraints.txt'}' -e '{place}[{extra}]'"
    return f"pip install '{place}[{extra}]'"


def _origin() -> Path | None:
    """Return the directory or the file that pip installed, if it is still there."""
    try:
        said = json.loads(distribution(_NAME).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    url = urlsplit(said.get("url", ""))
    path = Path(url2pathname(url.path))
    return path if url.scheme == "file" and path.exists() else None


def _clone() -> Path | None:
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None
