"""How a `Translator` runs a bundle: every option once, with what is taken where it is left out."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from signet_runtime.generation import DecoderBackend


class TranslatorOptions(TypedDict, total=False):
    """Keywords of `Translator` and `Translator.from_bundle`; whatever is left out is as in `DEFAULTS`.

    Attributes:
        device: "cpu" or "cuda".
        pose: who finds keypoints in videos, see `signet_runtime.pose.estimators`; "auto" takes the estimator that the
            model was trained on.
        pose_weights: directory of the pose estimator's weight files.
        offline: never download weights.
        detect_every: RTMPose looks for people in every so many frames; None is every frame on a GPU, and on a CPU as
            often as it is cheap there.
        engine: "onnx", or "trt" for a bundle's TensorRT engines; no other is taken in its place.
        generation: what searches for the text: "fast", or "optimum", the reference, which needs signet-slt[optimum] and
            alone drives TensorRT engines; None is "fast" on a CPU, "optimum" on a GPU.
        num_beams: width of the search; None takes the bundle's.
        signer: whom to follow among several people, see `signet_runtime.pose.signer.SignerTracker`.
        track: which video track of a file to read, from 1; None takes the default one, or the one with most pictures.
        fps: frames a second of keypoints that do not state it.
        n_best: how many texts to find, as many as there are beams at most; the others are alternatives.
        min_confidence: texts whose reliability is below are left out; needs a bundle with a calibration.
        piece_times: say where each piece of a text was read; needs a bundle whose decoder says what it looks at.
        isolate: decode videos in a process of their own that can reach nothing but the file, as is due to files of
            strangers; a decoder that such a file breaks takes nothing with it. Not on Windows.
        speed: at which recordings were slowed down or sped up: 0.25 is slow motion that takes four times as long.
    """

    device: str
    pose: str
    pose_weights: str | Path | None
    offline: bool
    detect_every: int | None
    engine: str
    generation: DecoderBackend | None
    num_beams: int | None
    signer: str
    track: int | None
    fps: float | None
    speed: float
    n_best: int
    min_confidence: float
    piece_times: bool
    isolate: bool


DEFAULTS: TranslatorOptions = {
    "device": "cpu",
    "pose": "auto",
    "pose_weights": None,
    "offline": False,
    "detect_every": None,
    "engine": "onnx",
    "generation": None,
    "num_beams": None,
    "signer": "active",
    "track": None,
    "fps": None,
    "speed": 1.0,
    "n_best": 1,
    "min_confidence": 0.0,
    "piece_times": False,
    "isolate": False,
}


def with_defaults(options: TranslatorOptions) -> TranslatorOptions:
    """Return the options with `DEFAULTS` in place of those left out.

    Raises:
        TypeError: there is no such option.
    """
    for name in options.keys() - DEFAULTS.keys():
        raise TypeError(f"there is no option {name!r} among {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **options}
