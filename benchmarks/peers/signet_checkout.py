"""The public code of the paper's authors (github.com/elsobhano/SIGNET), imported from a checkout outside the project.

It is not packaged, and lacks the graph convolutions that it imports (``source/models/stgcn.py``): these are Uni-Sign's
``stgcn_layers``, which have the names that it asks for, so a checkout of Uni-Sign is needed beside it. Nothing but the
models is imported, which need neither DeepSpeed nor a GPU.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

_NAMES = {"config", "models", "stgcn_layers"}
_UNUSED = ("peft",)  # for LoRA, which is off


def load_models(checkout: Path, unisign: Path | None = None) -> ModuleType:
    """Import a checkout's ``models``; what else has this name is untouched, and so is the checkout.

    Args:
        unisign: a checkout of Uni-Sign, whose graph convolutions are taken where the authors' are not there.

    Raises:
        FileNotFoundError: it is no checkout of theirs, or its graph convolutions are nowhere.
        ImportError: a package that it needs is not installed.
    """
    source = checkout / "source"
    if not (source / "models" / "signet.py").is_file():
        raise FileNotFoundError(f"{checkout}: no source/models/signet.py there; give the root of the authors' checkout")
    own = (source / "models" / "stgcn.py").is_file()
    if not own and (unisign is None or not (unisign / "stgcn_layers").is_dir()):
        raise FileNotFoundError(
            f"{checkout}: no source/models/stgcn.py there, which was not published; give a checkout of Uni-Sign, too, "
            "whose stgcn_layers it is"
        )
    import_module("transformers.models.mt5")  # it looks for peft when it is imported, and must not find a stand-in
    absent = {name: MagicMock() for name in _UNUSED if find_spec(name) is None}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in _NAMES | set(absent)}
    write_bytecode, path = sys.dont_write_bytecode, list(sys.path)
    for name in before:
        del sys.modules[name]
    sys.modules.update(absent)
    sys.dont_write_bytecode = True
    try:
        if not own:
            sys.path.insert(0, str(unisign))
            sys.modules["models.stgcn"] = import_module("stgcn_layers")
        sys.path.insert(0, str(source))
        return import_module("models")
    finally:
        sys.dont_write_bytecode, sys.path[:] = write_bytecode, path
        for name in [name for name in sys.modules if name.split(".")[0] in _NAMES | set(absent)]:
            del sys.modules[name]
        sys.modules.update(before)
