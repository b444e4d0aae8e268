"""The paper's ablations (its Table 5) by name: what each changes of any experiment."""

from dataclasses import dataclass, field, replace
from typing import Any

from models.training.network import NetworkTraining


@dataclass(frozen=True)
class Ablation:
    """One change to an experiment."""

    description: str
    network: dict[str, Any] = field(default_factory=dict)  # settings of the network
    context: int = 2

    def apply(self, experiment: NetworkTraining) -> NetworkTraining:
        """Return the experiment with this change; its target views stay the same."""
        return replace(
            experiment,
            network=replace(experiment.network, **self.network),
            context=self.context,
            skipped_views=max(0, experiment.context + experiment.skipped_views - self.context),
        )


def _intrinsics(kind: str, degree: int = 4) -> dict[str, Any]:
    return {"intrinsics_input": kind, "ray_degree": degree}


ABLATIONS = {
    "published": Ablation("the published network: intrinsics as a token"),
    "no-intrinsics": Ablation("no intrinsics", _intrinsics("none")),
    "global-add": Ablation("intrinsics added to every token", _intrinsics("add")),
    "dense-0": Ablation("rays at the encoder", _intrinsics("rays", 0)),
    "dense-2": Ablation("rays at the encoder, harmonics of degree 2", _intrinsics("rays", 2)),
    "dense-4": Ablation("rays at the encoder, harmonics of degree 4", _intrinsics("rays", 4)),
    "dense-4-decoder": Ablation("the same at the decoder", _intrinsics("decoder_rays", 4)),
    "no-rgb-shortcut": Ablation("no RGB shortcut", {"image_shortcut": False}),
    "linear-heads": Ablation("linear heads, so no RGB shortcut either", {"heads": "linear"}),
    "transform-then-fuse": Ablation("each view in its own frame, poses given", {"frame": "own"}),
    "3-views": Ablation("three views instead of two", context=3),
}
