"""What is in a bundle, in words."""

from __future__ import annotations

from signet_export.verification import FILE, read_verification
from signet_runtime.bundle import Bundle
from signet_runtime.confidence.calibration import FILE as CONFIDENCE
from signet_runtime.confidence.calibration import load_calibration


def describe(bundle: Bundle) -> str:
    """Tell of a bundle in a few lines, and one for every file."""
    manifest = bundle.manifest
    experts = [f"{e.name} ({', '.join(e.sign_languages)}; {e.corpus})" for e in manifest.experts]
    clock = f"{manifest.frame_rate:g} frames a second" if manifest.frame_rate else "every frame"
    lines = [
        f"{manifest.name}: writes {manifest.language}, reads at most {manifest.max_frames} frames, {clock}",
        *([f"notice       {manifest.notice}"] if manifest.notice else []),
        f"experts      {'; '.join(experts)}",
        f"routing      {manifest.routing.mode}, {manifest.routing.k} of {len(experts)}",
        f"keypoints    {manifest.pose_estimator}, profile {manifest.normalisation}",
        f"search       {manifest.generation.num_beams} beams, at most {manifest.generation.max_new_tokens} tokens",
    ]
    for engine in manifest.engines:
        build = engine.build
        bound = f", {build.target}, library {build.version}" if build else ""
        checked = "" if build is None or build.executed else ", built and not executed"
        apart = f", reads along, {engine.reach} frames behind" if engine.features else ""
        lines.append(f"engine       {engine.kind} {engine.precision}{bound}{checked}{apart}")
    if FILE in manifest.files:
        found = read_verification(bundle.file(FILE))
        same = ", ".join(f"{share:.0%} with {beams} beams" for beams, share in found.same_tokens.items())
        off = f"states within {found.largest:.1e} (RMS {found.relative:.1e}) of PyTorch"
        lines.append(f"verified     {found.precision}: {off}; same tokens {same}")
    if CONFIDENCE in manifest.files:
        fitted = load_calibration(bundle.file(CONFIDENCE))
        texts, nothing = fitted.samples
        lines.append(f"confidence   calibrated on {texts} samples and {nothing} clips of motion that says nothing")
    else:
        lines.append("confidence   not calibrated (--calibrate-confidence), so texts have no reliability")
    made = ", ".join(f"{name} {version}" for name, version in manifest.created_with.items())
    lines.append(f"made with    {made}")
    for name, record in sorted(manifest.files.items(), key=lambda item: -item[1].size):
        lines.append(f"{record.size / 1e6:10.2f} MB  {name}")
    lines.append(f"{sum(record.size for record in manifest.files.values()) / 1e6:10.2f} MB  in all")
    return "\n".join(lines)
