"""Equations as forges write them, $`…`$ in a line and ```math alone, as MathML: no script, no font from elsewhere."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"^```math\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"\$`([^`\n]+)`\$")


def equations(text: str) -> str:
    """Return Markdown with every equation in LaTeX replaced by MathML."""
    if "$`" not in text and "```math" not in text:
        return text
    # In a span, for Markdown takes an element that it does not know for a block where it begins a line.
    text = _BLOCK.sub(lambda found: f'<div class="maths">{_mathml(found[1], "block")}</div>', text)
    return _INLINE.sub(lambda found: f"<span>{_mathml(found[1], 'inline')}</span>", text)


def _mathml(latex: str, display: str) -> str:
    from latex2mathml.converter import convert

    mathml = convert(" ".join(latex.split()), display=display)
    # Between tags Markdown would take these for emphasis.
    return mathml.replace("_", "&#95;").replace("*", "&#42;")
