"""What is drawn on a picture: a skeleton, a sentence, and how much each expert was listened to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from signet_runtime.overlay.fonts import font_for
from signet_runtime.skeleton import REGIONS

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

    from signet_runtime.translation import Translation

# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = {
    "body": (240, 228, 66),
    "left_hand": (86, 180, 233),
    "right_hand": (230, 130, 20),
    "face": (0, 190, 140),
}
_OUTLINE = (0, 0, 0)
_TEXT, _FAINT = (255, 255, 255), (190, 190, 190)

_FAINTEST = 0.05  # of opacity: less cannot be seen


def drawn_edges(name: str) -> tuple[tuple[int, int], ...]:
    """Return the pairs of keypoints that lines are drawn between, of the region of that name."""
    region = REGIONS[name]
    # The graph links the nose to every joint of the face, which would hide it.
    shown = [edge for edge in region.edges if name != "face" or region.root not in edge]
    return tuple((region.joints[a], region.joints[b]) for a, b in shown)


class Sketch:
    """Draws on pictures of one size.

    Args:
        size: width and height in pixels.

    Attributes:
        missing: letters that no font of this machine has.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._width, self._height = size
        self._unit = max(1.0, min(size) / 100)
        self.missing: set[str] = set()
        self._labels: dict[int, tuple[Translation, Image, Image]] = {}

    def draw(
        self, picture: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, sentence: Translation | None
    ) -> np.ndarray:
        """Return a picture, uint8 RGB (H, W, 3), with a pose and what is said meanwhile.

        Args:
            keypoints: (133, 2) in fractions of the picture.
            scores: (133,), which become opacity.
        """
        from PIL import Image

        image = Image.fromarray(picture)
        self._skeleton(image, keypoints, scores)
        if sentence is not None:
            for label, place in self._said(sentence):
                image.paste(label, place, label)
        return np.asarray(image)

    def _skeleton(self, image: Image, keypoints: np.ndarray, scores: np.ndarray) -> None:
        from PIL import ImageDraw

        points = keypoints * (self._width, self._height)
        pen = ImageDraw.Draw(image, "RGBA")
        thick = max(2, round(0.55 * self._unit))
        for name, region in REGIONS.items():
            colour = COLOURS[name]
            fine = name in ("face", "left_hand", "right_hand")
            width = max(1, round(thick * {"body": 1.0, "face": 0.6}.get(name, 0.8)))
            lines = []
            for first, second in drawn_edges(name):
                opacity = float(min(scores[first], scores[second]))
                if opacity > _FAINTEST:
                    lines.append((tuple(points[first].tolist()), tuple(points[second].tolist()), opacity))
            for start, end, opacity in lines:  # a dark rim first, so that a colour is seen on any ground
                pen.line([start, end], (*_OUTLINE, round(150 * opacity)), width + max(2, width))
            for start, end, opacity in lines:
                pen.line([start, end], (*colour, round(255 * opacity)), width)
            radius = 0.9 * width if fine else 1.2 * width
            for joint in region.joints:
                if scores[joint] > _FAINTEST:
                    x, y = points[joint].tolist()
                    box = [x - radius, y - radius, x + radius, y + radius]
                    pen.ellipse(box, (*colour, round(255 * float(scores[joint]))))

    def _said(self, sentence: Translation) -> list[tuple[Image, tuple[int, int]]]:
        kept = self._labels.get(id(sentence))
        if kept is None:
            self._labels.clear()
            kept = self._labels[id(sentence)] = (sentence, self._subtitle(sentence), self._experts(sentence.routing))
        _, subtitle, experts = kept
        margin = round(2 * self._unit)
        below = (round((self._width - subtitle.width) / 2), self._height - subtitle.height - margin)
        return [(experts, (margin, margin)), (subtitle, below)]

    def _font(self, text: str, height: float) -> FreeTypeFont:
        font, missing = font_for(text, max(9, round(height)))
        self.missing |= set(missing)
        return font

    def _subtitle(self, sentence: Translation) -> Image:
        from PIL import Image, ImageDraw

        text = " ".join(sentence.text.split())
        if not text:
            text = "(not sure enough)" if sentence.suppressed else "(nothing)"
        font = self._font(text, 5.2 * self._unit)
        stroke = max(1, round(0.5 * self._unit))
        lines = _wrapped(text, font, 0.92 * self._width)
        sure = "" if sentence.reliability is None else f"reliability {sentence.reliability:.2f}"
        small = self._font(sure, 3.4 * self._unit)
        high = math.ceil(sum(font.getmetrics())) + stroke
        rest = math.ceil(sum(small.getmetrics())) + stroke if sure else 0
        wide = max([font.getlength(line) for line in lines] + [small.getlength(sure)])
        size = min(self._width, math.ceil(wide) + 4 * stroke), high * len(lines) + rest
        label = Image.new("RGBA", size, (0, 0, 0, 0))
        pen = ImageDraw.Draw(label)
        middle = label.width / 2
        colour = _FAINT if sentence.suppressed or not sentence.text.strip() else _TEXT
        for i, line in enumerate(lines):
            pen.text((middle, i * high), line, colour, font, "ma", stroke_width=stroke, stroke_fill=_OUTLINE)
        if sure:
            below = (middle, high * len(lines))
            pen.text(below, sure, _TEXT, small, "ma", stroke_width=max(1, stroke // 2), stroke_fill=_OUTLINE)
        return label

    def _experts(self, routing: Mapping[str, float]) -> Image:
        from PIL import Image, ImageDraw

        font = self._font(" ".join(routing), 2.6 * self._unit)
        high, gap = math.ceil(sum(font.getmetrics())), max(2, round(self._unit))
        names = max((font.getlength(name) for name in routing), default=0.0)
        names, number = min(names, 0.4 * self._width), font.getlength("0.00")
        bar = max(12.0, 0.12 * self._width)
        width = math.ceil(names + bar + number + 4 * gap)
        panel = Image.new("RGBA", (min(self._width, width), gap + (high + gap) * len(routing)), (0, 0, 0, 140))
        pen = ImageDraw.Draw(panel)
        for i, (name, weight) in enumerate(routing.items()):
            top = gap + i * (high + gap)
            left = 2 * gap + names
            pen.text((gap, top), _shortened(name, font, names), _TEXT if weight > 0 else _FAINT, font)
            pen.rectangle([left, top + 0.25 * high, left + bar, top + 0.75 * high], outline=_FAINT)
            if weight > 0:
                pen.rectangle(
                    [left, top + 0.25 * high, left + bar * weight, top + 0.75 * high], fill=COLOURS["left_hand"]
                )
            pen.text((left + bar + gap, top), f"{weight:.2f}", _TEXT if weight > 0 else _FAINT, font)
        return panel


def _wrapped(text: str, font: FreeTypeFont, width: float) -> list[str]:
    """Cut a text into lines, at spaces where it has any; what is wider than a line is cut anywhere."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _shortened(name: str, font: FreeTypeFont, width: float) -> str:
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(name + "…") > width:
        name = name[:-1]
    return name + "…"
