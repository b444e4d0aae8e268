"""Tell by its first bytes what a file is, whatever it is called."""

SPLAT_SUFFIX = ".splat"  # the one kind of scene without a signature
PLY, SPZ, GLB, ZIP, GZIP, KSPLAT = "ply", "spz", "glb", "zip", "gzip", "ksplat"
SCENES = (
    (b"ply\n", PLY),
    (b"ply\r", PLY),
    (b"NGSP", SPZ),
    (b"glTF", GLB),
    (b"PK\x03\x04", ZIP),
    (b"\x1f\x8b", GZIP),
)
OTHERS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"RIFF", "a WebP picture or another RIFF file"),
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"%PDF", "a PDF document"),
    (b"OFF", "a mesh (OFF)"),
    (b"solid", "a mesh (STL)"),
    (b"Kaydara FBX", "a mesh (FBX)"),
    (b"LASF", "a point cloud (LAS)"),
    (b"ASTM-E57", "a point cloud (E57)"),
    (b"# .PCD", "a point cloud (PCD)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard"),
    (b"\x1aE\xdf\xa3", "a video (WebM or Matroska)"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"{", "a JSON document"),
    (b"[", "a JSON document"),
)
HEAD_BYTES = 64
KSPLAT_VERSION = b"\0\x01"  # 0.1


def scene_kind(head: bytes, suffix: str) -> str | None:
    """Return which kind of scene, or of container, begins with these bytes."""
    for signature, kind in SCENES:
        if head.startswith(signature):
            return kind
    if suffix.lower() == ".ksplat" and head.startswith(KSPLAT_VERSION):
        return KSPLAT
    return None


def name_kind(head: bytes) -> str:
    """Return in words what begins with these bytes, for "... is ..."."""
    if not head:
        return "empty"
    if head[4:8] == b"ftyp":
        return "a video or a HEIC picture"
    start = head.lstrip().lower()
    for signature, words in OTHERS:
        if start.startswith(signature.lower()):
            return words
    return "of a kind that nps does not know"
