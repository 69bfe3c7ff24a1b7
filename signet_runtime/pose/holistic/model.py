"""One `.tflite` model in LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signet_runtime.errors import EngineError
from signet_runtime.pose.holistic.native_log import without_native_log
from signet_runtime.pose.holistic.pruning import piece
from signet_runtime.pose.holistic.rois import Roi
from signet_runtime.pose.holistic.warp import crop


class Network:
    """A model with one input, or a piece of one; not to be shared by several threads.

    Args:
        path: the `.tflite` file.
        outputs: which of the file's outputs or other tensors are wanted, in this order; the rest is not computed.
        inputs: where a piece begins that does not begin where the file does (see `pruning.piece`).
        threads: that work at it. How many makes no difference to what comes out.

    Attributes:
        shape: the input's.

    Raises:
        EngineError: LiteRT is not there, or cannot read the file.
    """

    def __init__(self, path: Path, outputs: Sequence[int | str], inputs: Sequence[str] = (), threads: int = 1) -> None:
        try:
            import kornia_rs  # noqa: F401  crops; that it is missing is known before the first frame

            with without_native_log():
                from ai_edge_litert.interpreter import Interpreter

                self._content = piece(path.read_bytes(), outputs, inputs)
                self._interpreter = Interpreter(model_content=self._content, num_threads=threads)
                self._interpreter.allocate_tensors()
        except ImportError as error:
            raise EngineError(f"{error}: pip install ai-edge-litert kornia-rs") from error
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT cannot run {path}: {str(error).splitlines()[0]}") from error
        (details,) = self._interpreter.get_input_details()
        self._input, self.shape = details["index"], tuple(int(size) for size in details["shape"])
        self._outputs = [details["index"] for details in self._interpreter.get_output_details()]

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """Return the wanted outputs, without the batch dimension, for an input of `shape` in float32."""
        self._interpreter.set_tensor(self._input, values)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


class Model:
    """A model that takes one square RGB picture; not to be shared by several threads.

    Args:
        path: the `.tflite` file.
        outputs, threads: see `Network`.
        low: what the model takes for black; white is 1.
        zero_border: see `warp.crop`.

    Raises:
        EngineError: LiteRT is not there, or cannot read the file.
    """

    def __init__(
        self,
        path: Path,
        outputs: Sequence[int | str],
        *,
        low: float = 0.0,
        zero_border: bool = False,
        threads: int = 1,
    ) -> None:
        self._low, self._zero_border = low, zero_border
        self._network = Network(path, outputs, threads=threads)
        self._pixels = np.empty(self._network.shape, np.float32)
        self.side = self._network.shape[1]

    def __call__(self, picture: np.ndarray, roi: Roi) -> list[np.ndarray]:
        """Return the wanted outputs, without the batch dimension, for a square of the picture."""
        crop(picture, roi, self._pixels, self._low, zero_border=self._zero_border)
        return self._network(self._pixels)
