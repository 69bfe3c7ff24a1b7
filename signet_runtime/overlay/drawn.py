"""What an overlay is made of, kept while a video is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from signet_runtime.errors import InputError
from signet_runtime.options import TranslatorOptions
from signet_runtime.overlay.track import PoseTrack
from signet_runtime.overlay.writer import check_overlay, write_overlay
from signet_runtime.pose.files import is_keypoints
from signet_runtime.translation import Translation


class Drawn:
    """The poses and sentences of a video that are to be drawn on it.

    Args:
        target: of the overlay.
        options: of the translator, with the defaults.

    Attributes:
        poses: take every frame's.
        sentences: that were said, in their order.

    Raises:
        EngineError: nothing can be drawn here.
        InputError: the video is to be read in a process of its own, and its sound cannot be.
    """

    def __init__(self, target: Path, options: TranslatorOptions) -> None:
        check_overlay()
        if options["isolate"]:
            raise InputError(
                "an overlay takes its sound from the video itself, which is to be isolated; without isolate"
            )
        self._target, self._track = target, options["track"]
        self.poses = PoseTrack(options["speed"])
        self.sentences: list[Translation] = []

    def write(self, source: Path, progress: Callable[[int, int | None], None] | None) -> list[str]:
        """Write the overlay; see `write_overlay`."""
        return write_overlay(source, self._target, self.poses, self.sentences, track=self._track, progress=progress)

    def close(self) -> None:
        """Remove what was kept on disk."""
        self.poses.close()


def refuse_overlay(source: object) -> None:
    """See that there is a video to draw on.

    Raises:
        InputError: there is none.
    """
    if not isinstance(source, str | Path) or is_keypoints(Path(source)):
        raise InputError("an overlay is drawn on a video file; keypoints, pictures and cameras have none")
