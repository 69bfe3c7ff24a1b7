"""Sign-language video to text, on one machine, offline.

>>> from signet_runtime import Translator
>>> Translator.from_bundle().translate("video.mp4").text

Names are loaded when they are first used: importing this package loads neither torch nor OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signet_runtime.bundle import Bundle
    from signet_runtime.errors import (
        BundleError,
        CheckpointError,
        ConfigError,
        EngineError,
        InputError,
        ModelError,
        OutputError,
        SignetError,
        TrainingError,
    )
    from signet_runtime.pose.files import read_keypoints, write_keypoints
    from signet_runtime.pose.sequence import PoseSequence
    from signet_runtime.sentences.keypoints import PoseStream
    from signet_runtime.sentences.segmenter import Pauses, PosedFrame
    from signet_runtime.sources.live import Live
    from signet_runtime.translation import Alternative, Piece, Translation
    from signet_runtime.translator import Translator

_HOMES = {
    "Alternative": "translation",
    "Bundle": "bundle",
    "BundleError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "EngineError": "errors",
    "InputError": "errors",
    "Live": "sources.live",
    "ModelError": "errors",
    "OutputError": "errors",
    "Pauses": "sentences.segmenter",
    "Piece": "translation",
    "PoseSequence": "pose.sequence",
    "PoseStream": "sentences.keypoints",
    "PosedFrame": "sentences.segmenter",
    "SignetError": "errors",
    "TrainingError": "errors",
    "Translation": "translation",
    "Translator": "translator",
    "read_keypoints": "pose.files",
    "write_keypoints": "pose.files",
}

__all__ = [
    "Alternative",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "InputError",
    "Live",
    "ModelError",
    "OutputError",
    "Pauses",
    "Piece",
    "PoseSequence",
    "PoseStream",
    "PosedFrame",
    "SignetError",
    "TrainingError",
    "Translation",
    "Translator",
    "read_keypoints",
    "write_keypoints",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
