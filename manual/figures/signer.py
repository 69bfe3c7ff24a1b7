"""A signer's keypoints: the regions that the model reads, and the whole path from a video to text."""

from __future__ import annotations

import csv
from pathlib import Path

from manual.figures.drawing import Drawing, Point, sub
from signet_runtime.skeleton import REGIONS, Region

COLOURS = {"body": "body", "left_hand": "left", "right_hand": "right", "face": "face"}
_NAMES = {"body": "body", "left_hand": "left hand", "right_hand": "right hand", "face": "face"}


def pose() -> dict[int, Point]:
    """Return where each joint of a pose is: two moments of examples/ase_music.mp4, one of them mirrored.

    The example is signed with one hand. In pose.csv the other arm is the mirror image of what the first does later.
    """
    with (Path(__file__).parent / "pose.csv").open(encoding="utf-8", newline="") as lines:
        return {int(row["joint"]): (float(row["x"]), float(row["y"])) for row in csv.DictReader(lines)}


def draw_region(drawing: Drawing, region: Region, colour: str, at: dict[int, Point], thin: float, dot: float) -> None:
    """Draw a region's graph, with each of its joints at a place in the drawing."""
    for first, second in region.edges:
        ends = (at[region.joints[first]], at[region.joints[second]])
        faint = region.root is not None and len(region.joints) == 18 and region.root in (first, second)
        drawing.path([(round(x, 1), round(y, 1)) for x, y in ends], colour, thin * (0.35 if faint else 1), arrow=False)
    for joint in region.joints:
        drawing.dot(*at[joint], dot, colour)


def _placed(region: Region, x: float, y: float, size: float) -> dict[int, Point]:
    """Return a region's joints in a square of the drawing, as large as they fit."""
    points = pose()
    own = [points[joint] for joint in region.joints]
    low = [min(point[axis] for point in own) for axis in (0, 1)]
    high = [max(point[axis] for point in own) for axis in (0, 1)]
    scale = size / max(high[0] - low[0], high[1] - low[1])
    middle = [(low[axis] + high[axis]) / 2 for axis in (0, 1)]
    return {
        joint: (x + (points[joint][0] - middle[0]) * scale, y + (points[joint][1] - middle[1]) * scale)
        for joint in region.joints
    }


def regions() -> Drawing:
    """Draw what the model reads of a signer: 69 joints in four regions, each seen from its own root."""
    drawing = Drawing(
        "regions",
        860,
        372,
        "The four regions",
        "A signer's skeleton with 69 joints: nine of the body, 21 of each hand, 18 of the face. To the right each "
        "region alone: the hands measured from the wrist, the face from the tip of the nose, the body in its own box.",
    )
    everybody = {joint: (183 + (x - 0.505) * 480, 72 + (y - 0.27) * 480) for joint, (x, y) in pose().items()}
    for name in ("body", "face", "left_hand", "right_hand"):
        draw_region(drawing, REGIONS[name], COLOURS[name], everybody, *((2.6, 3.2) if name == "body" else (1.6, 2.2)))
    drawing.words(183, 356, "133 joints are found, 69 are read", 12, "quiet")
    drawing.path([(356, 186), (396, 186)])
    roots = {
        "body": "in the box around it",
        "left_hand": "from the wrist",
        "right_hand": "from the wrist",
        "face": "from the tip of the nose",
    }
    for number, name in enumerate(("body", "face", "left_hand", "right_hand")):
        x, y = 410 + number % 2 * 220, 16 + number // 2 * 174
        region = REGIONS[name]
        drawing.box(x, y, 208, 164, stroke=COLOURS[name])
        at = _placed(region, x + 104, y + 84, 92)
        draw_region(drawing, region, COLOURS[name], at, 1.6, 2.4)
        if region.root is not None:
            drawing.dot(*at[region.joints[region.root]], 4.5, "box", COLOURS[name])
        drawing.words(x + 12, y + 21, _NAMES[name], 13, COLOURS[name], "start", bold=True)
        drawing.words(x + 196, y + 21, f"{len(region.joints)} joints", 11, "quiet", "end")
        drawing.words(x + 104, y + 154, roots[name], 11, "quiet")
    return drawing


def whole_path() -> Drawing:
    """Draw the path from a video to text, in six steps."""
    drawing = Drawing(
        "path",
        984,
        300,
        "From a video to text",
        "A video gives keypoints, these give four regions, three frozen experts read them, adapters refine what they "
        "say, a router that looks at the hands weighs the experts, and mT5 writes the sentence.",
    )
    drawing.box(18, 62, 128, 150, fill="box", stroke="line")
    small = {joint: (82 + (x - 0.505) * 156, 100 + (y - 0.27) * 156) for joint, (x, y) in pose().items()}
    for name in ("body", "face", "left_hand", "right_hand"):
        draw_region(drawing, REGIONS[name], COLOURS[name], small, 1.4, 1.2)
    drawing.words(82, 234, "keypoints", 13, bold=True)
    drawing.words(82, 250, "MediaPipe or RTMPose", 10.5, "quiet")
    drawing.path([(150, 137), (178, 137)])
    for number, name in enumerate(REGIONS):
        drawing.box(184, 65 + number * 37, 92, 30, stroke=COLOURS[name], radius=6)
        drawing.words(230, 85 + number * 37, _NAMES[name], 12, COLOURS[name], bold=True)
    drawing.words(230, 234, "regions", 13, bold=True)
    drawing.words(230, 250, "own root, own graph", 10.5, "quiet")
    for number, sign in enumerate(("Chinese", "American", "British")):
        y = 65 + number * 50
        drawing.path([(280, 137), (318, y + 22)], bend=True)
        drawing.labelled(322, y, 104, 44, [f"expert {number + 1}", sign], "frozen-fill", "frozen", "frozen")
        drawing.path([(430, y + 22), (458, y + 22)])
        drawing.labelled(462, y + 6, 74, 32, ["adapter"], "trained-fill", "trained", "trained", 12)
        drawing.path([(540, y + 22), (600, 137)], "line", bend=True)
    drawing.words(374, 234, "frozen experts", 13, bold=True)
    drawing.words(374, 250, "one a sign language", 10.5, "quiet")
    drawing.words(499, 234, "low rank", 13, bold=True)
    drawing.words(499, 250, "16 of 768", 10.5, "quiet")
    drawing.dot(620, 137, 17, "box", "trained")
    drawing.words(620, 142, "Σ", 16, "trained", bold=True)
    drawing.labelled(550, 26, 140, 44, ["router", "by the hands, top k"], "trained-fill", "trained", "trained")
    drawing.path([(374, 62), (374, 48), (546, 48)], "trained", dashed=True)
    drawing.path([(620, 73), (620, 116)], "trained")
    drawing.words(634, 100, "weights", 10.5, "quiet", "start")
    drawing.path([(640, 137), (684, 137)])
    drawing.words(662, 128, sub("Z", "fused"), 12)
    drawing.labelled(690, 104, 122, 66, ["mT5 encoder", "whole clip at once"], "text-fill", "text", "text")
    drawing.path([(816, 137), (838, 137)])
    drawing.labelled(844, 104, 122, 66, ["mT5 decoder", "piece by piece"], "text-fill", "text", "text")
    drawing.path([(905, 174), (905, 204)])
    drawing.words(905, 228, "“music”", 17, "text", bold=True)
    drawing.words(905, 248, "text, and how sure", 10.5, "quiet")
    for number, (name, fill) in enumerate(
        (("frozen", "frozen"), ("trained for your language", "trained"), ("language model", "text"))
    ):
        x = (290, 372, 574)[number]
        drawing.box(x, 272, 14, 12, f"{fill}-fill", fill, 3)
        drawing.words(x + 21, 282, name, 11, "quiet", "start")
    return drawing
