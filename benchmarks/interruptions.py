"""Interrupt a small `signet-train fit` at random moments, by kill -9, Ctrl-C and SIGTERM, and let it go on.

python -m benchmarks.interruptions [--moments 50] [--seed 0]

Every moment is a project of its own: interrupted once, somewhere between its first second and its last, then given
again until it is done. The weights of both stages, last and best, must be those of a project that nobody
interrupted, bit by bit, and nothing may end in a traceback. Processes are forked from one that has PyTorch loaded,
so that moments fall into the work and not into imports.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import torch

from benchmarks.measuring.forked import start, wait
from signet_train.checkpoint import load_checkpoint
from signet_train.cli import main as signet_train
from signet_train.data.manifest import write_manifest
from signet_train.data.spelled.corpus import spelling_rows

_SIGNALS = {"kill -9": signal.SIGKILL, "Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
_STAGES = ("pretrain-ase", "finetune")

# What makes a stage of `init` one of seconds, with a checkpoint every few steps.
_SMALL = {
    "input_channels": "4",
    "spatial_channels": "[4, 8]",
    "temporal_channels": "[8]",
    "embedding": "16",
    "d_model": "16",
    "d_kv": "8",
    "d_ff": "32",
    "num_layers": "1",
    "num_heads": "2",
    "frame_rate": "6.25",
    "num_beams": "1",
    "epochs": "8",
    "save_every": "3",
    "validate_every": "2",
    "workers": "1",
}


def _fit(project: Path) -> None:
    signet_train(["fit", str(project), "--device", "cpu", "--until", "finetune"], standalone_mode=True)


def make_project(root: Path) -> Path:
    """Make a project whose stages take seconds, below ``root``."""
    rows = list(spelling_rows(("ase",), max_letters=3, words_each=16, redrawn=None, seed=0))
    kept = [*[row for row in rows if row.split == "train"], *[row for row in rows if row.split == "dev"][:3]]
    kept += [row for row in rows if row.split == "test"][:3]
    write_manifest(root / "words.jsonl", kept)
    project = root / "whole"
    signet_train(["init", str(root / "words.jsonl"), "--out", str(project), "--mt5", "none"], standalone_mode=False)
    for file in project.glob("*.toml"):
        text = file.read_text(encoding="utf-8")
        for key, value in _SMALL.items():
            text = re.sub(rf"^{key} = [^#\n]*", f"{key} = {value}  ", text, flags=re.MULTILINE)
        file.write_text(text, encoding="utf-8")
    return project


def _weights(project: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for stage in _STAGES:
        for part in ("best", "last"):
            state = load_checkpoint(project / "runs" / stage / part).model.state_dict()
            found |= {f"{stage}/{part}/{name}": tensor for name, tensor in state.items()}
    return found


def _same(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> bool:
    return expected.keys() == found.keys() and all(torch.equal(value, found[name]) for name, value in expected.items())


@click.command()
@click.option("--moments", default=50, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
def main(moments: int, seed: int) -> None:
    """Run the campaign; ends with 1 if any project ends with other weights, or not at all."""
    torch.set_num_threads(1)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        project, fresh, log = make_project(root), root / "fresh", root / "log"
        # Keypoints are there already, and what `check` does needs no going on.
        signet_train(["fit", str(project), "--device", "cpu", "--until", "check"], standalone_mode=False)
        shutil.copytree(project, fresh)
        began = time.monotonic()
        if wait(start(lambda: _fit(project), log)):
            sys.exit(log.read_text(encoding="utf-8"))
        lasts = time.monotonic() - began
        expected = _weights(project)
        click.echo(f"a fit that nobody interrupts takes {lasts:.1f} s")
        wrong, ended, where = 0, Counter[str](), Counter[str]()
        for moment in range(moments):
            name = list(_SIGNALS)[moment % len(_SIGNALS)]
            shutil.rmtree(project)
            shutil.copytree(fresh, project)
            log.unlink()
            child = start(lambda: _fit(project), log)
            time.sleep(rng.uniform(0.05, 0.95) * lasts)
            os.killpg(child, _SIGNALS[name])
            code = wait(child)
            said = log.read_text(encoding="utf-8")
            ended[f"{name}: {'done already' if code == 0 else f'exit {code}'}"] += 1
            where[(re.findall(r"^\[\d/\d\] \S+ (\S+)", said, re.MULTILINE) or ["before the first step"])[-1]] += 1
            again = wait(start(lambda: _fit(project), log))
            said = log.read_text(encoding="utf-8")
            if again or "Traceback" in said or not _same(expected, _weights(project)):
                wrong += 1
                click.echo(f"WRONG after {name} (exit {code}, then {again}):\n{said}")
        click.echo(f"{moments} moments: {dict(ended)}; in {dict(where)}")
        click.echo(f"{moments - wrong} of {moments} went on to the same weights, bit by bit")
        sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
