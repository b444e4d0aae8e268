"""The checkpoints that the authors of NoPoSplat published, and their licenses."""

from dataclasses import dataclass

from models.weights.files import WeightsInfo
from models.weights.published import LICENSE

PARAMETER_BYTES = 4 * 611_996_332  # a checkpoint is half a megabyte larger


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A file on the Hugging Face hub, and what is known of it without fetching it."""

    name: str  # ours, for --weights
    file: str
    trained_on: str
    image_size: int  # height and width of the square training photos
    views: int
    sha256: str | None = None  # None: only the hub states it
    repository: str = "botaoye/NoPoSplat"
    code_license: str = "MIT, with parts from CroCo and DUSt3R under CC BY-NC-SA 4.0; not used here"
    license: str = LICENSE  # of the weights
    size: int = PARAMETER_BYTES  # about; the hub knows it exactly

    @property
    def description(self) -> str:
        """Training data, number of photos and image size, in a line."""
        size = self.image_size
        return f"NoPoSplat, {self.trained_on}, {self.views} photos at {size}x{size}"

    def info(self, sha256: str) -> WeightsInfo:
        """Return the provenance of a scene that the checkpoint predicted."""
        metadata = {
            "source": f"https://huggingface.co/{self.repository}/blob/main/{self.file}",
            "code_license": self.code_license,
            "image_size": str(self.image_size),
            "views": str(self.views),
        }
        return WeightsInfo(self.name, sha256, self.license, self.description, metadata)


CHECKPOINTS = (  # of those for as many photos, the first is the best for photos of any place
    PublishedCheckpoint("noposplat-mix", "mixRe10kDl3dv.ckpt", "RealEstate10K and DL3DV", 256, 2),
    PublishedCheckpoint(
        "noposplat-mix-512",
        "mixRe10kDl3dv_512x512.ckpt",
        "RealEstate10K and DL3DV",
        512,
        2,
        # Stated by a public project that has used the file, whose authors state none.
        sha256="4a35bc8c341b20859c0621f5238349b55b19a34a5bbeb3daec8d1f4c4603cd08",
        size=2_448_478_423,
    ),
    PublishedCheckpoint("noposplat-re10k", "re10k.ckpt", "RealEstate10K", 256, 2),
    PublishedCheckpoint("noposplat-acid", "acid.ckpt", "ACID", 256, 2),
    PublishedCheckpoint("noposplat-re10k-3view", "re10k_3views.ckpt", "RealEstate10K", 256, 3),
)


def find_checkpoint(name: str) -> PublishedCheckpoint | None:
    """Return the checkpoint of this name, or None."""
    return next((checkpoint for checkpoint in CHECKPOINTS if checkpoint.name == name), None)
