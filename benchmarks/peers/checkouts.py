"""The public code of two peers, imported from checkouts outside the project.

Neither is packaged; both call their modules ``models``, ``datasets``, ``config`` and ``utils``, so each is imported
alone and then put out of the way of the other.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

_NAMES = {"config", "datasets", "deformable_attention_2d", "models", "stgcn_layers", "utils"}
# Imported by the peers for video, for their RGB branch or for distributed training; pose-only inference calls none
# of them, so where they are not installed their names are enough.
_UNUSED = (
    "decord",
    "deepspeed",
    "deepspeed.accelerator",
    "deepspeed.comm",
    "einops",
    "einops.layers",
    "einops.layers.torch",
    "torchvision",
)


def load_modules(checkout: Path) -> tuple[ModuleType, ModuleType]:
    """Load a checkout's ``models`` and ``datasets``; what else has these names is untouched, and so is the checkout.

    Raises:
        FileNotFoundError: it is no checkout of a peer.
        ImportError: a package that the peer needs is not installed.
    """
    if not (checkout / "models.py").is_file():
        raise FileNotFoundError(f"{checkout}: no models.py there; give the root of the peer's checkout")
    absent = {name: MagicMock() for name in _UNUSED if not _loads(name.split(".")[0])}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in _NAMES | set(absent)}
    write_bytecode, path = sys.dont_write_bytecode, list(sys.path)
    for name in before:
        del sys.modules[name]
    sys.modules.update(absent)
    sys.path.insert(0, str(checkout))
    sys.dont_write_bytecode = True
    try:
        # Geo-Sign's datasets.py asks for a name that its config.py no longer has, of the RGB branch.
        vars(import_module("config")).setdefault("rgb_dirs", {})
        return import_module("models"), import_module("datasets")
    finally:
        sys.dont_write_bytecode, sys.path[:] = write_bytecode, path
        for name in [name for name in sys.modules if name.split(".")[0] in _NAMES | set(absent)]:
            del sys.modules[name]
        sys.modules.update(before)


def _loads(package: str) -> bool:
    """Whether a package is there; torchvision may be there and not fit the installed PyTorch."""
    if find_spec(package) is None:
        return False
    if package == "torchvision":
        try:
            import_module(package)
        except (ImportError, RuntimeError):
            return False
    return True
