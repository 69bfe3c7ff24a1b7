"""docs/paper.md is whole and true: everything in the paper has a line, and what a line names is there."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "paper.md"
PAPER = {
    *(f"Sec. 3.{n}" for n in range(1, 9)),
    *(f"Eq. {n}" for n in range(1, 15)),
    "Algorithm 1",
    *(f"Table {n}" for n in range(1, 16)),
    *(f"Fig. {n}" for n in range(1, 7)),
    *("A.1", "A.2", "A.3", "C.1", "D.1", "D.2", "D.3", "D.4"),
}
APPENDIX_B = {
    "datasets",
    "data augmentation",
    "LLM encoder-decoder",
    *("Stage I", "Stage II", "Stage III"),
    "lightweight expert adapters",
    "feature aggregation",
    "frozen text encoder",
}


def rows() -> list[tuple[str, str, str, str]]:
    """Of every line of the page's tables: what of the paper, the file, the name in it, the remark."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| Paper ", "| --- ")):
            paper, file, name, remark = (cell.strip() for cell in line.strip("|").split("|"))
            found.append((paper, file.strip("`"), name.strip("`"), remark))
    return found


def names(path: Path) -> set[str]:
    """What a module or a TOML file names, dotted: classes, functions, constants, fields, attributes of ``self``."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        tables = tomllib.loads(text)
        return set(tables) | {
            f"{table}.{key}" for table, keys in tables.items() if isinstance(keys, dict) for key in keys
        }
    return set(_named(ast.parse(text).body, ""))


def _named(body: list[ast.stmt], prefix: str) -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= {prefix + node.name} | _named(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            found.add(prefix + node.name)
            if prefix:
                found |= {prefix + target.attr for target in ast.walk(node) if _is_set_on_self(target)}  # type: ignore[attr-defined]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(prefix + node.target.id)
        elif isinstance(node, ast.Assign):
            found |= {prefix + target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def _is_set_on_self(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def test_every_part_of_the_paper_has_one_line() -> None:
    given = [paper for paper, *_ in rows()]
    assert len(given) == len(set(given))
    assert set(given) >= PAPER | {f"B, {paragraph}" for paragraph in APPENDIX_B}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_a_line_names_is_there(row: tuple[str, str, str, str]) -> None:
    _, file, name, remark = row
    assert name in names(ROOT / file)
    for path in re.findall(r"`([\w./]+/[\w./]*)`", remark):
        assert (ROOT / path).exists(), path


def test_the_remarks_name_what_is_there() -> None:
    everywhere = {
        name
        for package in ("signet_runtime", "signet_train", "export/signet_export", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        for name in names(path)
    }
    code = {name for *_, remark in rows() for name in re.findall(r"`([A-Za-z_][\w.]*)`", remark)}
    assert {name for name in code if not name.startswith("gumbel_")} <= everywhere


def test_a_name_that_is_not_there_is_noticed() -> None:
    assert {"Aggregation", "Aggregation.forward", "Aggregation.query"} <= names(
        ROOT / "signet_train/model/aggregation.py"
    )
    assert not {"query", "forward", "Aggregation.nothing"} & names(ROOT / "signet_train/model/aggregation.py")
    assert {"data.manifests", "stage"} <= names(ROOT / "signet_train/configs/phoenix14t/finetune.toml")
