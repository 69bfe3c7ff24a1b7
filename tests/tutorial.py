"""Run the commands of docs/tutorial.md, as they stand there, in a directory of its own, and say how long each took.

python tests/tutorial.py [DIRECTORY]: with the commands of the Python that runs this. It is no part of the suite; `make
tutorial` runs it, and CI.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blocks import blocks

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
LONGEST = 600.0  # seconds, of all commands together


def main(directory: Path) -> None:
    """Run them; end with 1 where one fails, the words are not read, or it takes longer than ten minutes."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    began = time.monotonic()
    out = ""
    for block in [block.commands for block in blocks(PAGE, "bash") if block.how == "tutorial"]:
        start = time.monotonic()
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(
            command, cwd=directory, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True
        )
        print(f"{time.monotonic() - start:6.1f} s  {block.splitlines()[0]}", flush=True)
        if done.returncode:
            sys.exit(f"the tutorial: {block.splitlines()[0]!r} ended with {done.returncode}")
        out = done.stdout.strip()
    took = time.monotonic() - began
    print(f"{took:6.1f} s  in all; the last command wrote {out!r}")
    if out != "music":
        sys.exit("the tutorial: a word that the model has seen is not read")
    if took > LONGEST:
        sys.exit(f"the tutorial takes longer than {LONGEST:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
