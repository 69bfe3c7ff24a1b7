"""A process that was forked from one with engines has their memory and none of their threads: it would never end."""

from __future__ import annotations

import os

from signet_runtime.errors import EngineError

_first: int | None = None  # the process in which engines were loaded first


def refuse_forked() -> None:
    """Note in which process engines are loaded, and refuse to load or run them in one that was forked from it.

    Raises:
        EngineError: this process was forked after engines were loaded.
    """
    global _first
    if _first is None:
        _first = os.getpid()
    elif _first != os.getpid():
        raise EngineError(
            "this process was forked from one in which a Translator was loaded, and has none of its threads: start "
            'processes by multiprocessing.get_context("spawn"), as ProcessPoolExecutor(mp_context=…), each with a '
            "Translator of its own"
        )
