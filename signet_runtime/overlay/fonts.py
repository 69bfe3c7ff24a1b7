"""A font of this machine that has the letters of a text."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from signet_runtime.errors import InputError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

VARIABLE = "SIGNET_FONT"

# In order: what comes with Linux distributions, macOS and Windows; those of many scripts last, for they are large.
_NAMES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "Helvetica.ttc",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "tahoma.ttf",
)


def font_for(text: str, size: int) -> tuple[FreeTypeFont, str]:
    """Return the first font that has all letters of a text, and the letters that even the best one lacks.

    Args:
        size: height in pixels.

    Raises:
        InputError: the font that `SIGNET_FONT` names cannot be read.
    """
    best = None
    for name in _candidates():
        font = _load(name, size)
        if font is None:
            continue
        missing = "".join(sorted({letter for letter in text if not letter.isspace() and not _has(font, letter)}))
        if best is None or len(missing) < len(best[1]):
            best = font, missing
        if not missing:
            break
    assert best is not None  # Pillow's own is there
    return best


def _candidates() -> list[str | None]:
    named = os.environ.get(VARIABLE)
    if named:
        if _load(named, 12) is None:
            raise InputError(f"{VARIABLE}={named}: cannot be read as a font; name a .ttf, .otf or .ttc file")
        return [named]
    return [*_NAMES, None]


@cache
def _load(name: str | None, size: int) -> FreeTypeFont | None:
    from PIL import ImageFont

    if name is None:  # Latin alone
        font = ImageFont.load_default(size)
        return font if isinstance(font, ImageFont.FreeTypeFont) else None
    try:
        return ImageFont.truetype(name if Path(name).is_absolute() or os.sep not in name else str(Path(name)), size)
    except (OSError, ValueError):
        return None


def _has(font: FreeTypeFont, letter: str) -> bool:
    # What a font lacks it draws as it draws what nobody has.
    return bytes(font.getmask(letter)) != bytes(font.getmask("\U0010ffff"))
