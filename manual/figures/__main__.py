"""Write the figures: python -m manual.figures [DIRECTORY], by default docs/figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from manual.figures import method, signer
from manual.figures.drawing import Drawing

FIGURES: dict[str, Callable[[], Drawing]] = {
    "path": signer.whole_path,
    "regions": signer.regions,
    "expert": method.expert,
    "fusion": method.fusion,
    "stages": method.stages,
    "timeline": method.timeline,
}


def write(directory: Path) -> None:
    """Write every figure below a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (directory / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "docs" / "figures")
