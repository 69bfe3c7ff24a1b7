"""Every example in Python of the pages runs, in the order of its page, as somebody would who pastes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import PAGES as ALL
from blocks import ROOT, blocks

PAGES = [page for page in ALL if blocks(page, "python")]


def test_there_are_examples() -> None:
    assert {page.name for page in PAGES} >= {"README.md", "python.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    run = [block for block in blocks(page, "python") if block.how == "suite"]
    for block in run:
        exec(compile(block.text, str(block), "exec"), names)
    said = capsys.readouterr().out
    assert bool(said.strip()) == bool(run)
    if page.name == "python.md":
        assert "[0.00 -> 3.20] music\n" in said and "['music', 'falar']" in said
        assert "missing.mp4: no such file" in said
