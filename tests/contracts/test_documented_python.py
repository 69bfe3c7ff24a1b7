"""Every example in Python of the pages runs, in the order of its page, as somebody would who pastes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What cannot run here has the reason before it, as <!-- not run: no way to the hub -->.
BLOCK = re.compile(r"(?<!-->\n)```python\n(.*?)```", re.DOTALL)
PAGES = [
    page for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))) if BLOCK.search(page.read_text("utf-8"))
]


def test_there_are_examples() -> None:
    assert {page.name for page in PAGES} >= {"README.md", "python.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCK.findall(page.read_text("utf-8")), 1):
        exec(compile(block, f"{page.name}, example {number}", "exec"), names)
    said = capsys.readouterr().out
    assert said.strip()
    if page.name == "python.md":
        assert "[0.00 -> 3.20] music\n" in said and "['music', 'falar']" in said
        assert "missing.mp4: no such file" in said
