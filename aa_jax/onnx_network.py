"""Networks of images in ONNX files, run by onnxruntime, which is imported when one is opened."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

Device = Literal["auto", "cpu", "cuda"]
DEVICES = get_args(Device)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def needed_runtime(user: str) -> ModuleType:
    """onnxruntime, which `user` needs.

    Raises:
      ModuleNotFoundError: it is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModuleNotFoundError(
            f"onnxruntime, which runs {user}, is missing: install it, as pip install 'aa_jax[pose]' does"
        ) from error
    return onnxruntime


class OnnxNetwork:
    """An ONNX file that takes batches of images.

    Attributes:
      path: of the file.
      size: height and width of the images that it takes.
      batch_size: images at once.
    """

    def __init__(
        self,
        path: Path,
        *,
        user: str,
        kind: str,
        size: tuple[int, int],
        outputs: int = 1,
        batch_size: int,
        device: Device = "auto",
    ):
        """Load it.

        Args:
          user: what it is needed for, in errors.
          kind: what is expected, in errors.
          size: height and width where the file leaves them free.
          outputs: how many there are.
          batch_size: where the file leaves it free.
          device: "cpu", "cuda", or "auto": CUDA where onnxruntime has it.

        Raises:
          ModuleNotFoundError: onnxruntime is missing.
          ValueError: the file is no such network, or the device cannot be used.
        """
        onnxruntime = needed_runtime(user)
        available = onnxruntime.get_available_providers()
        wanted = ("cuda", "cpu") if device == "auto" else (device,)
        providers = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in available]
        if not providers:
            raise ValueError(
                f"device {device} asked for, but this onnxruntime has {', '.join(available)} only: "
                "install onnxruntime-gpu, or choose cpu"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's own classes, which have no common base
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{path} cannot be loaded as an ONNX network, expected {kind}: {reason}") from error
        if device == "cuda" and PROVIDERS["cuda"] not in self._session.get_providers():
            raise ValueError(
                "device cuda asked for, but onnxruntime cannot use it here: see its message, or choose cpu"
            )
        inputs, given = self._session.get_inputs(), len(self._session.get_outputs())
        shape = inputs[0].shape if len(inputs) == 1 and inputs[0].type == "tensor(float)" else []
        if len(shape) != 4 or shape[1] != 3 or given != outputs:
            taken = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise ValueError(
                f"{path} takes {taken} and gives {given} outputs, expected {kind}: one input tensor(float) "
                f"(images, 3, height, width), {outputs} output{'s' if outputs > 1 else ''}"
            )
        self.path, self._name = path, inputs[0].name
        # Exporters name a free dimension, and give a fixed one as a number.
        height, width = (side if isinstance(side, int) else usual for side, usual in zip(shape[2:], size, strict=True))
        self.size: tuple[int, int] = (height, width)
        self._fixed = isinstance(shape[0], int)
        self.batch_size: int = shape[0] if self._fixed else batch_size

    def __call__(self, images: Sequence[Float[np.ndarray, "3 h w"]]) -> list[np.ndarray]:
        """The outputs, first dimension as many as images, of which there is one or more."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            batch = np.stack(images[start : start + self.batch_size])
            missing = self.batch_size - len(batch) if self._fixed else 0
            padded = np.pad(batch, [(0, missing), *[(0, 0)] * 3]) if missing else batch
            parts.append([output[: len(batch)] for output in self._session.run(None, {self._name: padded})])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
