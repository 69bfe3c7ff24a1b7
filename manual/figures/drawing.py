"""What the figures are made of: boxes, words and arrows, in colours that suit a dark page and a light one.

Colours are pairs (`light-dark()`), of which a browser takes one by the page's or the system's scheme; a panel lies
under everything, so that a viewer which knows no schemes shows the light figure on white.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

_TYPE = 1.1  # the figures are shown at four fifths of their size on most pages

# name -> what is drawn on a light page, on a dark one. Regions have the colours of the overlay, in a printable shade.
_COLOURS = {
    "panel": ("#fbfbfd", "#14161c"),
    "edge": ("#d8dbe4", "#2b2f3a"),
    "ink": ("#1d212b", "#eceef4"),
    "quiet": ("#5d6475", "#a2a9ba"),
    "box": ("#ffffff", "#1d2029"),
    "line": ("#8d95a7", "#727a8c"),
    "body": ("#a87900", "#ffcf4a"),
    "left": ("#2463c9", "#6ea8ff"),
    "right": ("#c2540a", "#ff9d4d"),
    "face": ("#1f8a4c", "#63d68f"),
    "frozen": ("#2f6f9f", "#8cc7f0"),
    "frozen-fill": ("#e8f2fa", "#172733"),
    "trained": ("#b3304f", "#ff8fa8"),
    "trained-fill": ("#fdecef", "#341a22"),
    "text": ("#5b43b8", "#b9a6ff"),
    "text-fill": ("#efecfb", "#231d3b"),
}

_STYLE = (
    ".sg{color-scheme:light dark;font-family:system-ui,-apple-system,'Segoe UI','Noto Sans','DejaVu Sans',sans-serif}"
    + "".join(
        f".sg .f-{name}{{fill:{light};fill:light-dark({light},{dark})}}"
        f".sg .s-{name}{{stroke:{light};stroke:light-dark({light},{dark})}}"
        for name, (light, dark) in _COLOURS.items()
    )
    + ".sg .n{fill:none}.sg .b{font-weight:600}.sg .m{font-family:ui-monospace,'SF Mono','DejaVu Sans Mono',monospace}"
)


class Drawing:
    """A figure under construction; coordinates are its pixels, from the upper left.

    Args:
        name: unique in a page; ids begin with it.
        title: what it shows, in a few words.
        description: what somebody is told who does not see it.
    """

    def __init__(self, name: str, width: int, height: int, title: str, description: str) -> None:
        self.name = name
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="sg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-labelledby="{name}-title {name}-says">\n'
            f'<title id="{name}-title">{escape(title)}</title>\n<desc id="{name}-says">{escape(description)}</desc>\n'
            f"<style>{_STYLE}</style>\n"
        )
        self._parts: list[str] = []
        self._heads: set[str] = set()
        self.box(0.5, 0.5, width - 1, height - 1, fill="panel", stroke="edge", radius=12)

    def svg(self) -> str:
        """Return the file's text, without an empty line."""
        markers = "".join(
            f'<marker id="{self.name}-{colour}" viewBox="0 0 8 8" refX="6.6" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path class="f-{colour}" d="M0 .8 7.2 4 0 7.2Z"/></marker>'
            for colour in sorted(self._heads)
        )
        defs = f"<defs>{markers}</defs>\n" if markers else ""
        return self._head + defs + "\n".join(self._parts) + "\n</svg>\n"

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str = "box",
        stroke: str = "line",
        radius: float = 8,
        thickness: float = 1.2,
        dashed: bool = False,
    ) -> None:
        """Draw a rounded rectangle."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect class="f-{fill} s-{stroke}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            f'rx="{radius:g}" stroke-width="{thickness:g}"{dash}/>'
        )

    def words(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 13,
        colour: str = "ink",
        anchor: str = "middle",
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        """Write a line of text whose baseline is at y; ``text`` may have <tspan> for sub- and superscripts."""
        classes = f"f-{colour}" + " b" * bold + " m" * mono
        safe = text if "<tspan" in text else escape(text)
        place = f'x="{x:g}" y="{y:g}" font-size="{size * _TYPE:g}" text-anchor="{anchor}"'
        self._parts.append(f'<text class="{classes}" {place}>{safe}</text>')

    def labelled(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        lines: Sequence[str],
        fill: str = "box",
        stroke: str = "line",
        colour: str = "ink",
        size: float = 13,
        dashed: bool = False,
    ) -> None:
        """Draw a box with its name in the middle, and smaller lines under the name."""
        self.box(x, y, width, height, fill, stroke, thickness=1.5, dashed=dashed)
        small = size - 2.5
        total = size + sum(small + 4 for _ in lines[1:])
        at = y + (height - total) / 2 + size * 0.86
        self.words(x + width / 2, at, lines[0], size, colour, bold=True)
        for line in lines[1:]:
            at += small + 4
            self.words(x + width / 2, at, line, small, "quiet")

    def path(
        self,
        points: Sequence[Point],
        colour: str = "line",
        thickness: float = 1.6,
        arrow: bool = True,
        dashed: bool = False,
        bend: bool = False,
    ) -> None:
        """Draw a line through points, with a head at its end; ``bend`` makes a curve of two points, level at both."""
        if bend:
            (x0, y0), (x1, y1) = points
            middle = (x0 + x1) / 2
            shape = f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
        else:
            shape = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        head = ""
        if arrow:
            self._heads.add(colour)
            head = f' marker-end="url(#{self.name}-{colour})"'
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        self._parts.append(
            f'<path class="n s-{colour}" d="{shape}" stroke-width="{thickness:g}" stroke-linecap="round" '
            f'stroke-linejoin="round"{dash}{head}/>'
        )

    def dot(self, x: float, y: float, radius: float, colour: str, ring: str | None = None) -> None:
        """Draw a disc, with a ring around it in another colour if one is named."""
        stroke = f" s-{ring}" if ring else ""
        self._parts.append(
            f'<circle class="f-{colour}{stroke}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" stroke-width="1.5"/>'
        )


def sub(text: str, below: str, above: str = "") -> str:
    """Return text with a small subscript, and after it a superscript."""
    low = f'<tspan dy="3" font-size="75%">{escape(below)}</tspan>'
    high = f'<tspan dy="-8" font-size="75%">{escape(above)}</tspan>' if above else ""
    return f"{escape(text)}{low}{high}"
