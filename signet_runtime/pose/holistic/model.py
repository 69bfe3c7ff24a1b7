"""One `.tflite` model in LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signet_runtime.errors import EngineError
from signet_runtime.pose.holistic.native_log import without_native_log
from signet_runtime.pose.holistic.pruning import with_outputs
from signet_runtime.pose.holistic.rois import Roi
from signet_runtime.pose.holistic.warp import crop


class Model:
    """A model that takes one square RGB picture; one thread, and not to be shared by several.

    Args:
        path: the `.tflite` file.
        outputs: which of the file's outputs are wanted, in this order; the rest is not computed.
        low: what the model takes for black; white is 1.
        zero_border: see `warp.crop`.

    Raises:
        EngineError: LiteRT is not there, or cannot read the file.
    """

    def __init__(self, path: Path, outputs: Sequence[int], *, low: float = 0.0, zero_border: bool = False) -> None:
        self._low, self._zero_border = low, zero_border
        try:
            import kornia_rs  # noqa: F401  crops; that it is missing is known before the first frame

            with without_native_log():
                from ai_edge_litert.interpreter import Interpreter

                self._content = with_outputs(path.read_bytes(), outputs)
                self._interpreter = Interpreter(model_content=self._content, num_threads=1)
                self._interpreter.allocate_tensors()
        except ImportError as error:
            raise EngineError(f"{error}: pip install ai-edge-litert kornia-rs") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT cannot run {path}: {str(error).splitlines()[0]}") from error
        (details,) = self._interpreter.get_input_details()
        self._input, self.side = details["index"], int(details["shape"][1])
        self._pixels = np.empty(details["shape"], np.float32)
        self._outputs = [details["index"] for details in self._interpreter.get_output_details()]

    def __call__(self, picture: np.ndarray, roi: Roi) -> list[np.ndarray]:
        """Return the wanted outputs, without the batch dimension, for a square of the picture."""
        crop(picture, roi, self._pixels, self._low, zero_border=self._zero_border)
        self._interpreter.set_tensor(self._input, self._pixels)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]
