"""The blocks of commands in the pages, and how each is run: what the comments above a block say.

A block without a comment is run by the suite, in a directory of its own. Otherwise, in comments right above it:

    <!-- run: slow -->                          by `pytest -m slow`
    <!-- run: slow, with trained -->            the same, with what test_documented_commands.py prepares by that name
    <!-- run: tutorial -->                      by `make tutorial`, in the order of the page
    <!-- run: in tests/train/test_x.py -->      by that test, on something small of the same layout; several with "and"
    <!-- not run: REASON -->                    by nobody
    <!-- not run: `TEXT`: REASON -->            all of it but the commands with TEXT in them

Where a block of text follows directly, it is what the commands write to stdout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("examples/*.md")),
]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->")


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        page: its name, below the root.
        line: its first, of the fence.
        language: what the fence says.
        text: what is between the fences.
        comments: those right above it, in their order.
        expected: the text that follows it, if it is one that the commands should write.
    """

    page: str
    line: int
    language: str
    text: str
    comments: tuple[str, ...]
    expected: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def why_not(self) -> str | None:
        """The reason why nobody runs it."""
        for comment in self.comments:
            if comment.startswith("not run: ") and not comment.startswith("not run: `"):
                return comment.removeprefix("not run: ")
        return None

    @property
    def how(self) -> str:
        """How it is run: "suite", "slow", "tutorial", "in FILE"; "not" where nobody runs it."""
        if self.why_not is not None:
            return "not"
        said = [comment.removeprefix("run: ") for comment in self.comments if comment.startswith("run: ")]
        return re.split(r"[,;]", said[0])[0] if said else "suite"

    @property
    def files(self) -> list[str]:
        """The tests that run it, where tests of something else do."""
        return re.split(r" and ", self.how.removeprefix("in ")) if self.how.startswith("in ") else []

    @property
    def prepared(self) -> list[str]:
        """What has to be there before it is run."""
        return [name for comment in self.comments for name in re.findall(r"^run: .*?\bwith (\w+)", comment)]

    @property
    def left_out(self) -> dict[str, str]:
        """What a command has in it that is not run -> why."""
        found = [re.fullmatch(r"not run: `(.+?)`: (.+)", comment) for comment in self.comments]
        return {match[1]: match[2] for match in found if match}

    @property
    def commands(self) -> str:
        """Its text without what is left out."""
        kept = [command for command in commands(self.text) if not any(text in command for text in self.left_out)]
        return "\n".join(kept) + "\n"


def commands(text: str) -> list[str]:
    """Return the lines of a shell's text, those that are continued as one."""
    return text.rstrip("\n").replace("\\\n", " ").split("\n")


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the blocks of a page, of one language if it is named."""
    text = page.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    found = []
    for number, fence in enumerate(fences):
        if language is not None and fence[1].strip() != language:
            continue
        above = text[: fence.start()].splitlines()
        comments: list[str] = []
        while above and (match := _COMMENT.fullmatch(above[-1].strip())):
            comments.insert(0, match[1])
            above.pop()
        after = fences[number + 1] if number + 1 < len(fences) else None
        follows = after is not None and after[1] == "text" and not text[fence.end() : after.start()].strip()
        expected = after[2] if after is not None and follows else None
        name = page.relative_to(ROOT).as_posix()
        line = text[: fence.start()].count("\n") + 1
        found.append(Block(name, line, fence[1].strip(), fence[2], tuple(comments), expected))
    return found


def all_blocks(language: str | None = None) -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in blocks(page, language)]
