"""What published checkpoints were trained on, by their file names; other files must be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from.

    Attributes:
        sign_language: ISO 639-3.
        language: of the text, BCP 47.
        seen: published corpora that it was trained on at any time, by `Row.corpus`.
        task: what its language model writes: sentences, or glosses.
        max_frames: of a clip in its training.
    """

    sign_language: str
    language: str
    seen: tuple[str, ...]
    task: Literal["translate", "recognise"] = "translate"
    max_frames: int = 256


_ISOLATED = Origin("ase", "en", ("youtube-asl", "wlasl"), "recognise", 64)

# Of https://huggingface.co/ZechengLi19/Uni-Sign. The Chinese ones were pretrained on CSL-News, the American ones on
# YouTube-ASL, then tuned on what their names say; the stage weights are pretrained alone (Uni-Sign's paper, and its
# issues 4 and 29; 64 frames are its train_stage3.sh's).
ORIGINS: dict[str, Origin] = {
    "csl_stage1_weight.pth": Origin("csl", "zh", ("csl-news",)),
    "csl_stage2_weight.pth": Origin("csl", "zh", ("csl-news",)),
    "csl_daily_pose_only_slt.pth": Origin("csl", "zh", ("csl-news", "csl-daily")),
    "csl_daily_rgb_pose_slt.pth": Origin("csl", "zh", ("csl-news", "csl-daily")),
    "how2sign_pose_only_slt.pth": Origin("ase", "en", ("youtube-asl", "how2sign")),
    "openasl_pose_only_slt.pth": Origin("ase", "en", ("youtube-asl", "openasl")),
    "wlasl_pose_only_islr.pth": _ISOLATED,
    "wlasl_rgb_pose_islr.pth": _ISOLATED,
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
