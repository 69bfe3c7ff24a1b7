"""The manual is whole: its pages are in the site, say what is true of the code, and look as their scripts draw them."""

from __future__ import annotations

import ast
import random
import re
import string
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("latex2mathml", reason="the manual needs .[docs]")

from manual import check, pages, reference
from manual.__main__ import HERE, navigation
from manual.figures.__main__ import write as write_figures
from manual.maths import equations
from signet_runtime.models.catalogue import built_in
from signet_train.data.datasets import DATASETS

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation_once() -> None:
    def places(entries: object) -> list[str]:
        if isinstance(entries, str):
            return [entries]
        inner = entries.values() if isinstance(entries, dict) else entries
        return [place for entry in inner for place in places(entry)]

    listed = places(navigation([("a command", "commands/a.md"), ("a package", "reference/a.md")]))
    assert len(listed) == len(set(listed))
    assert {pages.place(page) for page in pages.sources()} <= set(listed)
    named = tomllib.loads((HERE / "navigation.toml").read_text(encoding="utf-8"))
    there = {pages.place(page) for page in pages.sources()}
    assert {place for chapter in named.values() for place in chapter} <= there


@pytest.mark.parametrize("page", pages.sources())
def test_a_page_is_rewritten_with_links_that_lead_somewhere(page: str) -> None:
    text, pointed = pages.rewritten(page)
    assert text.startswith("# ") or "\n# " in text
    assert all((ROOT / path).is_file() for path in pointed)
    assert "```math" not in text and "$`" not in text


def test_a_link_to_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\n`[in code](nothing.md)`, [there](a.md#b), [not](nothing.md#b)\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"docs/a\.md: no file for the link to nothing\.md#b"):
        pages.rewritten("docs/a.md")


def test_markdown_is_the_same_to_a_forge_and_to_the_site() -> None:
    """Python-Markdown wants an empty line before a list or a table, and no second word after a fence's language."""
    for page in pages.sources():
        inside = False
        before = ""
        for line in read(page).splitlines():
            if line.startswith("```"):
                inside = not inside
                assert re.fullmatch(r"```[\w-]*", line), f"{page}: {line}"
            starts = re.match(r"(\s*)([-*]|\d+\.)\s|\|", line)
            if not inside and starts and before.strip():
                continues = re.match(r"\s*([-*]|\d+\.)\s|\||\s{2,}", before)
                assert continues, f"{page}: an empty line is missing before {line!r}"
            before = line


def test_equations_become_mathml() -> None:
    for _ in range(20):
        one, two = random.choices(string.ascii_letters, k=2)
        said = equations(f"With $`{one}_i`$ and\n\n```math\n\\frac{{{one}}}{{{two}_*}}\n```\n\nand `$x$` for $5.")
        assert said.count("<math") == said.count("</math>") == 2
        assert f"<mi>{one}</mi>" in said and "<mfrac>" in said
        assert "_" not in said and "*" not in said  # nothing is left that Markdown would take for emphasis
        assert said.endswith("and `$x$` for $5.")
    assert equations("costs $5 and `code`") == "costs $5 and `code`"


def test_the_figures_are_what_their_scripts_draw(tmp_path: Path) -> None:
    write_figures(tmp_path)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "figures").iterdir()}
    used = {name for page in DOCS for name in re.findall(r"\]\(figures/([\w-]+\.svg)\)", read(page))}
    assert used == set(drawn)
    for text in drawn.values():
        assert "<title" in text and "<desc" in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_what_is_wrong_with_a_site_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<h2 id="there">B</h2><img src="a.png"><script>let x = "<a href=no>"</script>')
    (tmp_path / "a.png").write_bytes(b"")
    right = '<a href="b.html#there">b</a><a href="#own">a</a><p id="own"><a href="https://example.org/">out</a>'
    (tmp_path / "a.html").write_text(right)
    assert check.faults(tmp_path) == []
    wrong = {
        '<a href="c.html">c</a>': "no such file",
        '<a href="b.html#nowhere">b</a>': "no such anchor",
        '<a href="#nowhere">a</a>': "no such anchor",
        '<script src="https://example.org/a.js"></script>': "from elsewhere",
        '<link rel="stylesheet" href="//fonts.example.org/a.css">': "from elsewhere",
        '<img src="https://example.org/a.png">': "from elsewhere",
        '<img src="c.png">': "which is not there",
        '<p style="background: url(https://example.org/a.png)">': "from elsewhere",
    }
    for text, said in wrong.items():
        (tmp_path / "a.html").write_text(right + text)
        (found,) = check.faults(tmp_path)
        assert found.startswith("a.html: ") and said in found
    (tmp_path / "a.html").write_text(right)
    (tmp_path / "a.css").write_text("@import 'https://example.org/b.css';")
    assert len(check.faults(tmp_path)) == 1


def test_every_name_of_the_reference_is_explained() -> None:
    griffe = pytest.importorskip("griffe", reason="the manual needs .[docs]")
    loader = griffe.GriffeLoader(search_paths=[str(ROOT), str(ROOT / "export")])

    def silent(thing: Any) -> list[str]:
        found = []
        for name, member in thing.members.items():
            if not name.startswith("_") and not member.is_alias and (member.is_class or member.is_function):
                found += [] if member.docstring else [member.path]
                found += silent(member) if member.is_class else []
        return found

    for package in sorted({module.split(".")[0] for module in reference.modules()}):
        loader.load(package)
    for module in reference.modules():
        assert loader.modules_collection[module].docstring, module
        assert silent(loader.modules_collection[module]) == []


def test_what_troubleshooting_quotes_is_said_by_the_code() -> None:
    sources = [
        path for package in ("signet_runtime", "signet_train", "export") for path in (ROOT / package).rglob("*.py")
    ]
    # One text, in which what is said in several strings or beside a variable is found piece by piece.
    code = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in sources)
    code = re.sub(r'" f?"', "", code)
    table = re.findall(r"^\| (.+?) \|", read("docs/troubleshooting.md"), re.MULTILINE)
    quoted = [text for cell in table if cell.startswith("`") for text in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 40
    for text in quoted:
        assert text in code, text


def test_troubleshooting_has_every_problem_of_the_doctor() -> None:
    tree = ast.parse(read("signet_runtime/commands/doctor.py"))
    problems = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Tuple)
            and len(node.elts) == 2
            and isinstance(node.elts[0], ast.Constant | ast.JoinedStr)
        ):
            said = node.elts[0].values if isinstance(node.elts[0], ast.JoinedStr) else [node.elts[0]]
            pieces = [piece.value for piece in said if isinstance(piece, ast.Constant)]
            longest = str(max(pieces, key=lambda piece: len(str(piece)))).strip(" :")
            if " " in longest and len(longest) > 12:
                problems.append(longest)
    assert len(problems) >= 8
    page = " ".join(read("docs/troubleshooting.md").split())
    for problem in problems:
        words = problem.split(", ")[0].split(" files")[0]
        assert words in page, problem


def test_every_model_and_corpus_has_its_licence() -> None:
    page = read("docs/licences.md")
    for name in [*built_in().models, *DATASETS]:
        if name != "videos":
            assert f"`{name}`" in page, name


def test_every_result_is_listed() -> None:
    page = read("docs/benchmarks.md")
    for path in ROOT.glob("benchmarks/results/**/*.md"):
        assert f"](../{path.relative_to(ROOT).as_posix()})" in page, path
