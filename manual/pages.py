"""Where each page and file of the repository lies in the site, and links between them rewritten to it.

The pages stay plain Markdown that a forge shows, with links that work there. In the site docs/ is at the root, and
what lies beside it has a place of its own; source files that a page points at become pages with their text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from manual.maths import equations

ROOT = Path(__file__).resolve().parents[1]

# Pages at the root of the repository that belong to the manual too.
_AT_THE_ROOT = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".md": "markdown"}


def sources() -> list[str]:
    """Return the Markdown of the manual, as paths in the repository."""
    found = [*ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/results/**/*.md"), *ROOT.glob("examples/*.md")]
    return [*_AT_THE_ROOT, *sorted(path.relative_to(ROOT).as_posix() for path in found)]


def place(path: str) -> str:
    """Return where a file of the repository lies in the site's pages: of a page, a picture, or any other text."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("benchmarks/results/"):
        return "measured/" + path.removeprefix("benchmarks/results/")
    if path in _AT_THE_ROOT:
        return "project/" + path.lower()
    if path.startswith("examples/") and path.endswith(".md"):
        return "project/examples.md"
    return f"source/{path}.md"


def title(path: str) -> str:
    """Return what a page is called: its first heading, else the name of its file in words."""
    heading = re.search(r"^# (.+)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return (
        heading[1] if heading else PurePosixPath(path).stem.capitalize().replace("-cpu", ", on a CPU").replace("-", " ")
    )


def write(into: Path) -> None:
    """Write all pages of the manual, and whatever they point at, below a directory.

    Raises:
        FileNotFoundError: a page points at what is not in the repository; the message says which page and where to.
    """
    beside: set[str] = set()
    for path in sources():
        text, pointed = rewritten(path)
        beside |= pointed
        _save(into / place(path), text)
    for path in sorted(beside - set(sources())):
        if path.endswith((".png", ".jpg", ".svg")):
            target = into / place_of_picture(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / path).read_bytes())
        else:
            _save(into / place(path), _listing(path))


def place_of_picture(path: str) -> str:
    """Return where a picture lies in the site's pages."""
    return place(path).removesuffix(".md")


def rewritten(path: str) -> tuple[str, set[str]]:
    """Return a page's Markdown with links to where things are in the site, and the files that it points at.

    Figures are put into the page, so that they take its colours; equations become MathML, which browsers show unaided.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    pointed: set[str] = set()
    here = PurePosixPath(place(path)).parent

    def link(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        name, hash_, anchor = target.partition("#")
        file = os.path.normpath(PurePosixPath(path).parent / name)
        if not (ROOT / file).is_file():
            raise FileNotFoundError(f"{path}: no file for the link to {target}")
        if picture and file.endswith(".svg"):
            return _figure(file, text)
        pointed.add(file)
        site = place_of_picture(file) if picture else place(file)
        return f"{picture}[{text}]({os.path.relpath(site, here)}{hash_}{anchor})"

    text = (ROOT / path).read_text(encoding="utf-8")
    if not re.search(r"^# ", text, re.MULTILINE):
        text = f"# {title(path)}\n\n{text}"
    text = equations(text)
    # Links in code are text.
    pieces: list[str] = []
    end = 0
    for code in _CODE.finditer(text):
        pieces += [_LINK.sub(link, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, _LINK.sub(link, text[end:])]), pointed


def _figure(file: str, text: str) -> str:
    drawing = (ROOT / file).read_text(encoding="utf-8")
    drawing = re.sub(r"^<\?xml.*?\?>\s*", "", drawing).strip()
    assert "\n\n" not in drawing, f"{file}: an empty line would end the figure in Markdown"
    return f'<figure class="drawn">\n{drawing}\n</figure>'


def _listing(path: str) -> str:
    """Return a page that shows a text file as it is."""
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8").rstrip()
    return f"# {PurePosixPath(path).name}\n\n`{path}`\n\n````{language}\n{text}\n````\n"


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
