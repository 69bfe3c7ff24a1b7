"""From a bundle and the name of an engine to what encodes and what decodes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from signet_runtime.bundle import ENGINE_KINDS, Bundle
from signet_runtime.engines.encoder import Encoder
from signet_runtime.generation import DecoderBackend, TextDecoder


class LoadedEngine(NamedTuple):
    """A bundle's engine, ready to run; ``close`` it when done."""

    encoder: Encoder
    decoder: TextDecoder
    close: Callable[[], None] = lambda: None


def load_engine(
    bundle: Bundle, choice: str, device: str = "cpu", generation: DecoderBackend | None = None
) -> LoadedEngine:
    """Load the engine of a bundle that was asked for; no other is taken in its place.

    Each kind has a module in this package, named in `ENGINE_KINDS`, with a function ``load`` of (bundle, the bundle's
    `Engine`, device, generation) that gives a `LoadedEngine`. It is imported here and not before.

    Args:
        choice: one of `ENGINE_CHOICES`, or a kind.
        device: "cpu" or "cuda".
        generation: what searches for the text; None is the engine's own choice.

    Raises:
        EngineError: the bundle has no such engine, or it cannot run here or not with ``generation``.
        BundleError: it is damaged, or not of an encoder and its decoders.
    """
    engine = bundle.engine(choice)
    module = importlib.import_module(f"{__package__}.{ENGINE_KINDS[engine.kind].module}")
    loaded: LoadedEngine = module.load(bundle, engine, device, generation)
    return loaded
