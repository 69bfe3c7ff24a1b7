"""Build the manual: python -m manual [DIRECTORY], by default build/manual. `make docs` runs it.

Nothing is fetched, and a link or an anchor that leads nowhere ends it with 1, as does whatever Zensical warns of.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from manual import check, pages, reference

HERE = Path(__file__).resolve().parent


def build(directory: Path) -> Path:
    """Build the site below a directory, and return it.

    Raises:
        SystemExit: something in the manual is wrong; what, is on stderr.
    """
    shutil.rmtree(directory, ignore_errors=True)
    written = directory / "pages"
    pages.write(written)
    told = reference.write(written)
    shutil.copytree(HERE / "assets", written / "assets")
    settings = (HERE / "zensical.toml").read_text(encoding="utf-8")
    settings = settings.replace("nav = []", f"nav = {_toml(navigation(told))}")
    settings = settings.replace('custom_dir = "theme"', f"custom_dir = {json.dumps(str(HERE / 'theme'))}")
    settings = settings.replace('paths = ["."]', f"paths = {json.dumps([str(pages.ROOT), str(pages.ROOT / 'export')])}")
    (directory / "zensical.toml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(directory / "zensical.toml")]
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False
    )
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    if done.returncode or "Warning" in said:
        sys.exit(f"{said}\nthe manual is not built")
    site = directory / "site"
    if found := check.faults(site):
        sys.exit("\n".join([*found, f"the manual has {len(found)} links that lead nowhere, or loads from elsewhere"]))
    return site


def navigation(told: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the site's navigation: that of navigation.toml, the reference, and what was measured.

    A page of docs/ that navigation.toml does not name comes last, so that none is lost.
    """
    sections: dict[str, Any] = tomllib.loads((HERE / "navigation.toml").read_text(encoding="utf-8"))
    named = {"index.md", *(name for entries in sections.values() for name in entries)}
    others = [page for page in pages.sources() if page.startswith("docs/") and page.removeprefix("docs/") not in named]
    chapters: list[dict[str, Any]] = []
    for section, entries in sections.items():
        chapters.append({section: [{called: name} for name, called in entries.items()]})
    measured = [page for page in pages.sources() if page.startswith("benchmarks/results/")]
    for chapter in chapters:
        if "Benchmarks" in chapter:
            chapter["Benchmarks"] += [{_measured(page): pages.place(page)} for page in measured]
        if "Reference" in chapter:
            chapter["Reference"] += [
                {"Commands": [{called: path} for called, path in told if path.startswith("commands/")]},
                {"Python": [{called: path} for called, path in told if path.startswith("reference/")]},
            ]
    if others:
        chapters.append({"Also": [{pages.title(page): pages.place(page)} for page in others]})
    return [{"SIGNET": "index.md"}, *chapters]


def _measured(page: str) -> str:
    folder = Path(page).parent.name
    return pages.title(page) if folder == "results" else f"{folder.capitalize()}, the report"


def _toml(value: Any) -> str:
    """Write what navigation is made of as TOML: texts, lists, and tables of one key."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    began = time.monotonic()
    site = build(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else pages.ROOT / "build" / "manual")
    print(f"{time.monotonic() - began:.1f} s: {site / 'index.html'}")
