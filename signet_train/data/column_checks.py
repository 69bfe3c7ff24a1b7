"""What is wrong with what rows say, found by column: only a row that may have a fault is looked at on its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from signet_train.data.languages import language_problem, sign_language_problem
from signet_train.data.rows import Row, Rows

Kind = Literal["unsafe id", "no text", "no gloss", "unknown language"]

# What is safe, or says something, beyond doubt; whatever else there is, Python's own rules decide.
_SAFE_ID = r"^[ -.0-\[\]-~]*[!-\-0-\[\]-~][ -.0-\[\]-~]*$"
_SAYS_SOMETHING = r"[\pL\pN\pP\pS]"


def faults_of_rows(rows: Rows, task: str) -> Iterator[tuple[int, list[tuple[Kind, str]]]]:
    """Yield the numbers (from 0) of rows that cannot be trained on by what they say, and what is wrong, in their order.

    Args:
        rows: of a manifest.
        task: translation needs every row's text, recognition its gloss.
    """
    target = "gloss" if task == "recognise" else "text"
    languages = [value for value in rows.distinct("language") if language_problem(value)]
    signed = [value for value in rows.distinct("sign_language") if sign_language_problem(value)]
    start = 0
    for batch in rows.batches("id", target, "language", "sign_language"):
        ids, targets, language, sign_language = batch.columns
        fine = pc.and_(
            pc.match_substring_regex(ids, _SAFE_ID),
            pc.fill_null(pc.match_substring_regex(targets, _SAYS_SOMETHING), False),
        )
        for column, problems in ((language, languages), (sign_language, signed)):
            fine = pc.and_(fine, pc.invert(pc.is_in(column, value_set=pa.array(problems, pa.string()))))
        for place in np.flatnonzero(~fine.to_numpy(zero_copy_only=False)).tolist():
            found = _faults(rows[start + place], task)
            if found:
                yield start + place, found
        start += len(batch)


def _faults(row: Row, task: str) -> list[tuple[Kind, str]]:
    found: list[tuple[Kind, str]] = []
    if row.id in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in row.id):
        found.append(("unsafe id", f"{row.id!r} is not safe as a file name"))
    if task == "recognise" and not (row.gloss or "").strip():
        found.append(("no gloss", "the gloss is empty"))
    if task == "translate" and not row.text.strip():
        found.append(("no text", "the text is empty"))
    problems = language_problem(row.language), sign_language_problem(row.sign_language)
    return found + [("unknown language", problem) for problem in problems if problem is not None]
