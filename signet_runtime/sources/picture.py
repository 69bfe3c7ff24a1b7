"""A decoded frame as a player shows it: upright, mirrored, in its aspect, deinterlaced, on a screen's brightness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from signet_runtime.sources.deferred import deferred_errors

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_SQUARE = Fraction(1)
_WIDEST = 8  # no pixel that is meant is so many times wider than high

# Transfer functions whose light goes beyond a screen's (ITU-T H.273).
_PQ, _HLG = 16, 18
_WHITE = 203.0  # of a screen, in nits (BT.2408)
_PEAK = 1000.0  # what is mastered brighter than this is shown as this, in nits

_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)

# Of so many quarter turns counter-clockwise, what `_orientation` says.
_TURNED = ((False, False, False), (True, False, True), (False, True, True), (True, True, False))


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Return how much wider than high a stream's pixels are; 1 where it does not say, or nonsense."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect and Fraction(1, _WIDEST) <= aspect <= _WIDEST else _SQUARE


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return width and height with square pixels; no pixel is lost."""
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def shown_size(frame: VideoFrame, size: tuple[int, int]) -> tuple[int, int]:
    """Return the width and height of a frame of ``size`` once it is turned as it is to be shown."""
    return size[::-1] if _orientation(frame)[0] else size


def upright(frame: VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return a decoded frame as uint8 RGB (H, W, 3), brought to ``size`` (width, height), then turned and mirrored."""
    width, height = size or (frame.width, frame.height)
    if frame.color_trc in (_PQ, _HLG):
        image = _tone_mapped(frame.to_ndarray(format="rgb48le", width=width, height=height), int(frame.color_trc))
    elif any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8":
        colours = frame.to_ndarray(format="rgba", width=width, height=height)
        alpha = colours[..., 3:].astype(np.uint16)
        image = (colours[..., :3] * alpha // 255).astype(np.uint8)  # on black, as players show it
    else:
        image = frame.to_ndarray(format="rgb24", width=width, height=height)
    transposed, left_right, up_down = _orientation(frame)
    if not (transposed or left_right or up_down):
        return image
    if transposed:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if up_down else 1, :: -1 if left_right else 1])


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether to transpose, then to flip left to right, then upside down: the nearest to its display matrix."""
    from av.sidedata.sidedata import Type

    try:
        beside: Any = frame.side_data  # PyAV's types take it for a mapping from strings
        matrix = beside.get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV does not know what else lies beside the frame, as Exif does beside an image
        return _TURNED[round(frame.rotation / 90) % 4]
    if matrix is None:
        return False, False, False
    # x' = ax + cy, y' = bx + dy
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5].astype(np.int64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, bool(a < 0), bool(d < 0)
    return True, bool(c < 0), bool(b < 0)


def progressive(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield the frames, and from the first interlaced one on what FFmpeg's bwdif makes of them, one for one."""
    graph: Graph | None = None
    shape = None
    with deferred_errors(frames) as readable:
        for frame in readable:
            if graph is not None and (frame.width, frame.height, frame.format.name) != shape:
                yield from _flush(graph)
                graph = None
            if graph is None:
                if not frame.interlaced_frame:
                    yield frame
                    continue
                graph, shape = _deinterlacer(frame), (frame.width, frame.height, frame.format.name)
            graph.push(frame)
            yield from _ready(graph)
        if graph is not None:
            yield from _flush(graph)


def _deinterlacer(frame: VideoFrame) -> Graph:
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 90000)
    )
    bwdif, sink = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    return graph


def _ready(graph: Graph) -> Iterator[VideoFrame]:
    import av

    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _flush(graph: Graph) -> Iterator[VideoFrame]:
    graph.push(None)
    yield from _ready(graph)


@cache
def _light(transfer: int) -> np.ndarray:
    """Return linear light, 1 is a screen's white, of every 16-bit value of a signal: float32 (65536,)."""
    signal = np.linspace(0, 1, 1 << 16)
    if transfer == _PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = signal ** (1 / m2)
        nits = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:  # BT.2100 HLG, with its system gamma on a display of 1000 nits
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        nits = 1000 * scene**1.2
    return (np.minimum(nits, _PEAK) / _WHITE).astype(np.float32)


@cache
def _display() -> np.ndarray:
    """Return the 8-bit value that shows light from 0 to the peak, in 4096 steps: tone-mapped, then sRGB's curve."""
    peak, knee = _PEAK / _WHITE, 0.5
    light = np.linspace(0, peak, 1 << 12)
    # Moebius, as FFmpeg's tonemap has it: light up to the knee stays as it is, what is above is pressed below 1.
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    pressed = (b**2 + 2 * b * knee + knee**2) / (b - a) * (light + a) / (light + b)
    mapped = np.clip(np.where(light <= knee, light, pressed), 0, 1)
    curve = np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)
    return np.round(255 * curve).astype(np.uint8)


def _tone_mapped(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Return uint8 RGB in BT.709's colours of uint16 RGB (H, W, 3) in BT.2020's."""
    light = _light(transfer)[signal] @ _BT2020_TO_BT709.T
    steps = np.clip(light * np.float32((len(_display()) - 1) * _WHITE / _PEAK), 0, len(_display()) - 1)
    return _display()[steps.astype(np.int16)]
