"""TensorBoard's log, if TensorBoard is installed."""

from dataclasses import asdict
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from models.training.loop import StepReport


class TensorBoard:
    """A folder that TensorBoard shows. Raises ImportError where that is not installed."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def add_report(self, report: StepReport) -> None:
        """Add a point to the curve of every number."""
        values = asdict(report)
        details = values.pop("details")
        for name, value in (values | details).items():
            self._writer.add_scalar(name, value, report.step)

    def add_image(self, step: int, image: Float[Tensor, "3 height width"]) -> None:
        """Add an image in [0, 1]."""
        self._writer.add_image("views, target, rendering", image, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
