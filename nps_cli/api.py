"""Reading photos, loading networks and writing scenes, for programs; see "Python" in README.md."""

from nps_cli.formats import load_scene, save_scene
from nps_cli.photos.intrinsics import GivenIntrinsics
from nps_cli.photos.load import load_photos
from nps_cli.weights.networks import load_networks

__all__ = ["GivenIntrinsics", "load_networks", "load_photos", "load_scene", "save_scene"]
