"""Compare what the demo makes with what it made when its golden outputs were kept, under other libraries too.

python -m benchmarks.goldens                                        # here and now
python -m benchmarks.goldens --with numpy==2.1.0 --with onnxruntime==1.31.1  # each alone, beside what is installed
python -m benchmarks.goldens --write                                # keep them anew

Golden are the keypoints of the example videos, and of these keypoints the texts, their probabilities and the routing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "contracts" / "golden"
EXAMPLES = ("ase_music", "psr_falar")


def outputs(name: str) -> dict[str, Any]:
    """Return what the demo makes of an example's golden keypoints."""
    from signet_runtime import Translator

    with Translator(n_best=3) as translator:
        (found,) = translator.sentences(GOLDEN / f"{name}.npz", whole=None)
    return {
        "text": found.text,
        "log_prob": found.log_prob,
        "pieces": [[piece.text, piece.log_prob] for piece in found.pieces],
        "routing": found.routing,
        "others": [[other.text, other.log_prob] for other in found.alternatives],
    }


def differences(name: str, golden: dict[str, Any], found: dict[str, Any]) -> dict[str, float]:
    """Return the largest differences of an example's outputs from the golden ones, by what they are of.

    ``texts`` counts those that are others, of the best and the alternatives.
    """
    best = [golden["text"], *[text for text, _ in golden["pieces"]], *[text for text, _ in golden["others"]]]
    now = [found["text"], *[text for text, _ in found["pieces"]], *[text for text, _ in found["others"]]]
    probabilities = [golden["log_prob"], *[value for _, value in golden["pieces"]]]
    probabilities_now = [found["log_prob"], *[value for _, value in found["pieces"]]]
    same = len(probabilities) == len(probabilities_now)
    return {
        "texts": float(sum(a != b for a, b in zip(best, now, strict=False)) + abs(len(best) - len(now))),
        "log_prob": float(np.abs(np.subtract(probabilities, probabilities_now)).max()) if same else float("inf"),
        "routing": max(abs(golden["routing"][key] - found["routing"].get(key, 0.0)) for key in golden["routing"]),
    }


def keypoints(name: str) -> np.ndarray:
    """Return an example video's keypoints and scores (T, 133, 3), as they are found now."""
    from signet_runtime import Translator
    from signet_runtime.pose.files import read_keypoints

    with tempfile.TemporaryDirectory() as scratch, Translator() as translator:
        kept = Path(scratch) / "found.npz"
        list(translator.sentences(ROOT / "examples" / f"{name}.mp4", keypoints_out=kept))
        found = read_keypoints(kept)
    return np.concatenate([found.keypoints, found.scores[..., None]], axis=-1)


def _compare(with_videos: bool) -> dict[str, float]:
    from signet_runtime.pose.files import read_keypoints

    golden = json.loads((GOLDEN / "demo.json").read_text(encoding="utf-8"))
    worst: dict[str, float] = {}
    for name in EXAMPLES:
        found = differences(name, golden[name], outputs(name))
        if with_videos:
            kept, now = read_keypoints(GOLDEN / f"{name}.npz"), keypoints(name)
            before = np.concatenate([kept.keypoints, kept.scores[..., None]], axis=-1)
            found["keypoints"] = float(np.abs(before - now).max()) if before.shape == now.shape else float("inf")
        for key, value in found.items():
            worst[key] = max(worst.get(key, 0.0), value)
    return worst


def _row(label: str, worst: dict[str, float]) -> str:
    shown = [f"{worst['texts']:.0f}", *[_number(worst.get(key)) for key in ("log_prob", "routing", "keypoints")]]
    return f"| {label} | {' | '.join(shown)} |"


def _number(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:.1e}"


@click.command()
@click.option("--with", "others", metavar="PACKAGE==VERSION", multiple=True, help="Another version, in a place apart.")
@click.option("--videos/--no-videos", default=True, help="Also find the keypoints of the videos again.")
@click.option("--write", is_flag=True, help="Keep what comes out as golden.")
@click.option("--json", "as_json", metavar="PACKAGE", hidden=True)
def main(others: tuple[str, ...], videos: bool, write: bool, as_json: str | None) -> None:
    """Print a table of the largest differences, a row a set of versions."""
    if write:
        _write()
    if as_json:
        click.echo(json.dumps([version(as_json), _compare(videos)]))
        return
    click.echo(
        "| versions | texts that differ | log-probability | routing | keypoints |\n| --- | --- | --- | --- | --- |"
    )
    here = f"numpy {version('numpy')}, ONNX Runtime {version('onnxruntime')}"
    click.echo(_row(here, _compare(videos)))
    for other in others:
        with tempfile.TemporaryDirectory() as place:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place, other]
            subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
            path = os.pathsep.join([place, *filter(None, [os.environ.get("PYTHONPATH")])])
            command = [
                sys.executable,
                "-m",
                "benchmarks.goldens",
                "--json",
                other.partition("==")[0],
                *([] if videos else ["--no-videos"]),
            ]
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, capture_output=True, text=True
            )
            if done.returncode:
                click.echo(f"| {other} | does not run: {(done.stderr.strip().splitlines() or ['?'])[-1]} | | | |")
            else:
                found, worst = json.loads(done.stdout.splitlines()[-1])
                if found != other.partition("==")[2]:
                    raise click.ClickException(f"{other} was asked for, and {found} ran")
                click.echo(_row(other.replace("==", " "), worst))


def _write() -> None:
    from signet_runtime import Translator

    GOLDEN.mkdir(exist_ok=True)
    with Translator() as translator:
        for name in EXAMPLES:
            video = ROOT / "examples" / f"{name}.mp4"
            list(translator.sentences(video, keypoints_out=GOLDEN / f"{name}.npz"))
    kept = {name: outputs(name) for name in EXAMPLES}
    (GOLDEN / "demo.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
