"""ONNX models with the inputs and outputs of rtmlib's YOLOX and RTMPose, that see painted people, or are large.

A person is a rectangle of one strong colour (green, blue or red-violet are told apart by the detector), with
a white and a red marker inside. The detector answers with the rectangle; the pose model with the white marker
for the body, feet and face (joints 0-90) and with the red one for the hands (91-132). Both read BGR, as
rtmlib's models do: with red and blue exchanged neither finds what it should.

A trunk of random weights makes a model as large, and as sensitive to what it is given, as one would have it: the
detector's boxes then waver a little with it, and the pose model's answers are all its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FILLS = {"green": (0, 150, 0), "blue": (0, 0, 150)}  # RGB
_MEAN = np.array([123.675, 116.28, 103.53], np.float32).reshape(1, 3, 1, 1)
_STD = np.array([58.395, 57.12, 57.375], np.float32).reshape(1, 3, 1, 1)
_MARKER = 9  # pixels, odd: its middle is a pixel's
OVERSHOOT = 1.1  # SimCC peaks exceed 1 a little


def paint(size: tuple[int, int], people: dict[str, tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]]):
    """A frame with people in it: colour -> (box x1 y1 x2 y2, white marker x y, red marker x y), in pixels."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    for colour, ((x1, y1, x2, y2), *_) in people.items():
        image[y1:y2, x1:x2] = FILLS[colour]
    for _, *markers in people.values():
        for (x, y), paint_as in zip(markers, ((255, 255, 255), (255, 0, 0)), strict=True):
            half = _MARKER // 2
            image[y - half : y + half + 1, x - half : x + half + 1] = paint_as
    return image


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, op: str, *inputs: str, **attributes) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def channel(self, image: str, index: int) -> str:
        return self("Gather", image, self.constant(np.int64([index])), axis=1)

    def save(self, path: Path, image_shape, outputs: dict[str, tuple]) -> None:
        nodes = [*self.nodes, *(helper.make_node("Identity", [name], [out]) for out, (name, _) in outputs.items())]
        graph = helper.make_graph(
            nodes,
            "painted_people",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, image_shape)],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, shape) for out, (_, shape) in outputs.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)


# Convolutions, and their channels, at every halving of the image from the second to the fifth: with weights and
# multiplications (10^6, 10^9) as in YOLOX-m at 640 x 640 (25, 37) and in rtmlib's "performance" pose model, an RTMW-l
# at 288 x 384 (58, 9); and light ones.
YOLOX_M = ((96, 5), (192, 5), (384, 5), (768, 2))
RTMW_L = ((128, 2), (256, 2), (512, 2), (1024, 5))
LIGHT = ((8, 1), (16, 1), (32, 1), (64, 1))


def _trunk(g: _Graph, image: str, stages: tuple[tuple[int, int], ...], rng: np.random.Generator) -> str:
    """Features (N, channels, H / 32, W / 32) of random convolutions that keep the scale of what they are given."""
    pixels, before = g("Div", image, g.constant(np.float32(64))), 3

    def convolve(pixels: str, before: int, channels: int, stride: int) -> str:
        weights = rng.standard_normal((channels, before, 3, 3), np.float32) * np.float32(np.sqrt(2 / (9 * before)))
        return g("Relu", g("Conv", pixels, g.constant(weights), pads=[1, 1, 1, 1], strides=[stride, stride]))

    for channels, count in ((stages[0][0] // 2, 0), *stages):
        pixels, before = convolve(pixels, before, channels, 2), channels
        for _ in range(count):
            pixels = convolve(pixels, channels, channels, 1)
    return pixels


def write_detector(path: Path, size: int = 416, stages: tuple[tuple[int, int], ...] | None = None) -> None:
    """YOLOX with its NMS inside: image (1, 3, S, S) -> boxes and scores (1, people, 5)."""
    g = _Graph()
    blue, green, red = (g.channel("input", i) for i in range(3))
    rows = []
    for own, others in ((green, (blue, red)), (blue, (green, red))):
        strength = g("Sub", own, g("Max", *others))
        mask = g("Cast", g("Greater", strength, g.constant(np.float32(75))), to=TensorProto.FLOAT)  # (1, 1, S, S)
        edges = []
        for last in (0, 1):
            for axis in (2, 3):  # profile over x, then over y
                profile = g("ReduceMax", mask, axes=[axis], keepdims=0)
                edge = g("Cast", g("ArgMax", profile, axis=2, keepdims=0, select_last_index=last), to=TensorProto.FLOAT)
                edges.append(g("Add", edge, g.constant(np.float32(last))))
        score = g("Mul", g("ReduceMax", mask, axes=[2, 3], keepdims=0), g.constant(np.float32(0.9)))
        rows.append(g("Unsqueeze", g("Concat", *edges, score, axis=1), g.constant(np.int64([1]))))
    boxes = g("Concat", *rows, axis=1)
    if stages is not None:
        features = _trunk(g, "input", stages, np.random.default_rng(0))
        wavering = g("Tanh", g("ReduceMean", features, axes=[1, 2, 3], keepdims=0))  # (1,), up to a pixel
        boxes = g("Add", boxes, g("Mul", wavering, g.constant(np.float32([[[1, 1, 1, 1, 0]]]))))
    g.save(path, [1, 3, size, size], {"dets": (boxes, [1, 2, 5])})


def write_pose(path: Path, size: tuple[int, int] = (192, 256), batch: str | int = "batch") -> None:
    """RTMPose: crops (batch, 3, H, W) -> SimCC of x (batch, 133, 2 W) and of y (batch, 133, 2 H)."""
    g = _Graph()
    pixels = g("Add", g("Mul", "input", g.constant(_STD)), g.constant(_MEAN))
    blue, green, red = (g.channel(pixels, i) for i in range(3))
    white = g("Min", blue, green, red)
    markers = (
        g("Relu", g("Sub", white, g.constant(np.float32(120)))),
        g("Relu", g("Sub", g("Sub", red, g("Max", blue, green)), g.constant(np.float32(120)))),
    )
    outputs = {}
    for name, axis, length in (("simcc_x", 2, size[0]), ("simcc_y", 3, size[1])):
        parts = []
        for marker, joints in zip(markers, (91, 42), strict=True):
            profile = g("ReduceSum", marker, g.constant(np.int64([axis])), keepdims=0)  # (batch, 1, length)
            fine = g(
                "Resize",
                profile,
                "",
                g.constant(np.float32([1, 1, 2])),
                mode="linear",
                coordinate_transformation_mode="asymmetric",
            )
            triangle = np.float32(np.bartlett(65)[1:-1]).reshape(1, 1, -1)  # makes the marker's middle the peak
            fine = g("Conv", fine, g.constant(triangle), pads=[31, 31])
            top = g("ReduceMax", fine, axes=[2], keepdims=1)
            fine = g("Div", g("Mul", fine, g.constant(np.float32(OVERSHOOT))), g("Max", top, g.constant(np.float32(1))))
            parts.append(g("Tile", fine, g.constant(np.int64([1, joints, 1]))))
        outputs[name] = (g("Concat", *parts, axis=1), [batch, 133, 2 * length])
    g.save(path, [batch, 3, size[1], size[0]], outputs)


def write_random_pose(path: Path, size: tuple[int, int] = (288, 384), stages: tuple[tuple[int, int], ...] = LIGHT):
    """RTMPose with random weights: crops (batch, 3, H, W) -> SimCC of x (batch, 133, 2 W) and of y (batch, 133, 2 H).

    As in a trained one every answer is a hill several bins wide.
    """
    rng = np.random.default_rng(1)
    g = _Graph()
    features = _trunk(g, "input", stages, rng)
    maps = rng.standard_normal((133, stages[-1][0], 1, 1), np.float32) / np.float32(np.sqrt(stages[-1][0]))
    joints = g("Reshape", g("Conv", features, g.constant(maps)), g.constant(np.int64([0, 133, -1])))
    cells = size[0] // 32 * (size[1] // 32)
    outputs = {}
    for name, length in (("simcc_x", 2 * size[0]), ("simcc_y", 2 * size[1])):
        hill = np.exp(-0.5 * (np.arange(-24, 25) / 8) ** 2)
        weights = rng.standard_normal((cells, length + 48))
        smooth = np.stack([np.convolve(row, hill, "valid") for row in weights]) / (4 * np.sqrt(cells))
        outputs[name] = (g("MatMul", joints, g.constant(np.float32(smooth))), ["batch", 133, length])
    g.save(path, ["batch", 3, size[1], size[0]], outputs)


SIZE = (480, 360)  # of what is painted
_BODY, _HANDS = slice(0, 91), slice(91, 133)

# The pose model answers in half pixels of its 192 x 256 crop. The crop spans 1.25 boxes, so a box of 160 x 260
# makes a crop pixel 1.3 of the frame's: half a bin (0.33) and the warp's interpolation stay below a pixel.
_SUBPIXEL = 0.6


def person(x: int, y: int, t: int = 0) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]:
    """A 160 x 260 box at (x, y) whose white marker moves right and whose red one moves up."""
    return (x, y, x + 160, y + 260), (x + 40 + 3 * t, y + 60 + t), (x + 100 + t, y + 200 - 2 * t)


def check(result, marked, size=SIZE) -> None:
    """See that keypoints and scores of a frame are where a person was painted."""
    (keypoints, scores), (_, white, red) = result, marked
    pixels = keypoints * size
    assert keypoints.shape == (133, 2) and keypoints.dtype == np.float32 and scores.dtype == np.float32
    assert np.abs(pixels[_BODY] - white).max() < _SUBPIXEL
    assert np.abs(pixels[_HANDS] - red).max() < _SUBPIXEL
    assert OVERSHOOT > 1 and (scores == 1).all()  # peaks beyond 1 are clipped
