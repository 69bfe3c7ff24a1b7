"""The card of a model, as a hub shows it: README.md beside signet.json, which does not list it, so it may be edited."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from signet_export.verification import FILE, read_verification
from signet_runtime.bundle import Bundle
from signet_runtime.files import whole_file
from signet_train.checkpoint import ExpertCard

CARD = "README.md"
_NOT_STATED = "Not stated."


def write_card(bundle: Bundle, experts: Sequence[ExpertCard], licence: str | None, scores: str | None) -> Path:
    """Write a bundle's card into it, and return where.

    Args:
        experts: of the checkpoint, which know more than the bundle does.
        licence: SPDX's id; scores: as `signet-train evaluate` prints them. None: the card says that it is not stated.

    Raises:
        OutputError: it cannot be written.
    """
    path = bundle.path / CARD
    with whole_file(path) as temporary:
        temporary.write_text(model_card(bundle, experts, licence, scores), encoding="utf-8")
    return path


def model_card(bundle: Bundle, experts: Sequence[ExpertCard], licence: str | None, scores: str | None) -> str:
    """Return the card: languages, data, scores, licence, intended use and limits, as far as they are known."""
    manifest = bundle.manifest
    signs = sorted({code for expert in experts for code in expert.sign_languages})
    text = "multilingual" if manifest.language == "mul" else manifest.language
    head = {
        "language": [text],
        "library_name": "signet-slt",
        "tags": ["sign-language-translation", "onnx", *(f"sign-language-{code}" for code in signs)],
    }
    if licence is not None:
        head["license"] = licence.lower()
    clock = f"{manifest.frame_rate:g} frames a second" if manifest.frame_rate else "the video's own frames"
    size = sum(record.size for record in manifest.files.values())
    precisions = ", ".join(f"{engine.kind} {engine.precision}" for engine in manifest.engines)
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),  # JSON is YAML
        "---",
        "",
        f"# {manifest.name}",
        "",
        f"Reads {', '.join(signs)} and writes {manifest.language}, by [SIGNET](https://cogvis-cvssp.github.io/papers/signet):",
        f"{len(experts)} {'expert' if len(experts) == 1 else 'experts'}, "
        f"{manifest.routing.k} of them for a clip. {size / 1e6:.0f} MB, {precisions}.",
        *(["", f"**Note:** {manifest.notice}"] if manifest.notice else []),
        "",
        "```bash",
        "pip install -e '.[edge,hub]'    # in a clone of SIGNET",
        "signet-translate --model hf:ORG/NAME video.mp4      # this repository's name for ORG/NAME",
        "```",
        "",
        "## Languages and data",
        "",
        "| expert | sign languages | trained on | seen at any time |",
        "| --- | --- | --- | --- |",
        *(
            f"| {e.name} | {', '.join(e.sign_languages)} | {e.corpus} | {', '.join(e.seen) or 'not stated'} |"
            for e in experts
        ),
        "",
        "## Scores",
        "",
        *(["```", scores.rstrip(), "```"] if scores else [_NOT_STATED]),
        "",
        "## Licence",
        "",
        f"{licence}. The data have terms of their own." if licence else f"{_NOT_STATED} Ask before you use it.",
        "",
        "## Intended use and limits",
        "",
        f"- Translation of a sign language of the table above, by one signer in view, {clock}, at most "
        f"{manifest.max_frames} frames a sentence. Other sign languages are other languages: it does not read them.",
        f"- It wants the keypoints of {manifest.pose_estimator}; those of another estimator read worse.",
        "- What it writes is a guess, and can be fluent and wrong. Where a mistake does harm (medicine, law, safety), "
        "have a person interpret.",
        "- Who signs in other ways than the people of its data (region, age, hand, skin, camera) may be read worse.",
        *_verified(bundle),
    ]
    return "\n".join(lines) + "\n"


def _verified(bundle: Bundle) -> list[str]:
    if FILE not in bundle.manifest.files:
        return []
    found = read_verification(bundle.file(FILE))
    same = ", ".join(f"{share:.0%} of clips with {beams} beams" for beams, share in found.same_tokens.items())
    return [
        "",
        "Its engine was compared with PyTorch when it was exported: states within "
        f"{found.largest:.1e}, the same tokens for {same}.",
    ]
