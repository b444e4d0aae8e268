"""TensorBoard's log, where TensorBoard is installed."""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor


class Board:
    """A folder that TensorBoard shows. Raises ImportError where that is not installed."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add_numbers(self, step: int, numbers: dict[str, float | int]) -> None:
        """A point on the curve of every number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def add_picture(self, step: int, picture: Float[Tensor, "3 height width"]) -> None:
        """A picture in [0, 1]."""
        self._writer.add_image("views, target, drawing", picture, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
