"""Large scenes, rendered slab by slab from front to back, so that memory hardly grows with them."""

from collections.abc import Callable

import torch

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.render import Rendering

MAX_AT_ONCE = 4_000_000  # Gaussians of a scene that is rendered whole
SLAB = 500_000
OPAQUE = 1e-4  # transmittance behind which nothing is seen, as in the original renderer


def render_in_slabs(
    gaussians: Gaussians,
    camera: Camera,
    background: tuple[float, float, float],
    render: Callable[[Gaussians, Camera], Rendering],
    slab: int = SLAB,
) -> Rendering:
    """Render `slab` Gaussians at a time by `render`, nearest first, and blend the results.

    The same picture as from all at once, but for rounding; without gradients.
    """
    with torch.no_grad():
        world2cam = camera.world2cam.to(gaussians.means)
        depth = gaussians.means @ world2cam[2, :3]
        # NumPy's, as torch's takes three times the memory.
        order = torch.from_numpy(depth.numpy().argsort(kind="stable"))
        del depth
        shown = torch.zeros(4, *camera.size)  # color and depth
        transmittance = torch.ones(camera.size)
        for indices in order.split(slab):
            front = render(gaussians.at(indices), camera)
            shown += transmittance * torch.cat([front.color, front.depth[None]])
            transmittance *= 1 - front.alpha
            if transmittance.max() < OPAQUE:
                break
        behind = transmittance * shown.new_tensor(background)[:, None, None]
        return Rendering(shown[:3] + behind, shown[3], 1 - transmittance)
