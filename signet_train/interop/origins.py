"""What published checkpoints were trained on: as the catalogue of models has it, by names of files where those tell.

Other files must be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from signet_runtime.models.catalogue import Entry, built_in

# What the public code runs. Which model made the published keypoints is not said; see docs/published.md.
POSE_ESTIMATOR = "rtmpose-lightweight"


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from.

    Attributes:
        sign_language: ISO 639-3.
        language: of the text, BCP 47.
        seen: published corpora that it was trained on at any time, by `Row.corpus`.
        task: what its language model writes: sentences, or glosses.
        max_frames: of a clip in its training.
        pose_estimator: whose keypoints it wants. frame_rate: of its clock, None for the video's own.
    """

    sign_language: str
    language: str
    seen: tuple[str, ...]
    task: Literal["translate", "recognise"] = "translate"
    max_frames: int = 256
    pose_estimator: str = POSE_ESTIMATOR
    frame_rate: float | None = None


def origin_of(entry: Entry) -> Origin:
    """Return what a catalogue has of a checkpoint of Uni-Sign's code."""
    assert entry.sign_language and entry.language  # of the format unisign, which the catalogue has checked
    return Origin(
        entry.sign_language,
        entry.language,
        entry.trained_on,
        "recognise" if entry.kind == "recogniser" else "translate",
        entry.max_frames,
        entry.pose_estimator or POSE_ESTIMATOR,
        entry.frame_rate,
    )


# Of https://huggingface.co/ZechengLi19/Uni-Sign, whose files' names tell them apart. The Chinese ones were pretrained
# on CSL-News, the American ones on YouTube-ASL, then tuned on what their names say; the stage weights are pretrained
# alone (Uni-Sign's paper, and its issues 4 and 29; 64 frames are its train_stage3.sh's).
ORIGINS: dict[str, Origin] = {
    file.path: origin_of(entry)
    for entry in built_in().models.values()
    if entry.repository == "uni-sign"
    for file in entry.files
}

# Corpora of one sign language, which experts are pretrained on: which language that is.
SIGN_LANGUAGES = {
    "csl-news": "csl",
    "csl-daily": "csl",
    "youtube-asl": "ase",
    "how2sign": "ase",
    "openasl": "ase",
    "bobsl": "bfi",
    "bsl-corpus": "bfi",
    "meinedgs": "gsg",
    "phoenix14t": "gsg",
}

# What the authors' scripts call the directories of their experts (out/experts/CSL_News/best_checkpoint.pth).
EXPERT_DIRECTORIES = {"CSL_News": "csl-news", "YT_ASL": "youtube-asl", "BOBSL": "bobsl"}
