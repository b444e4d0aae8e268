"""Networks, geometry and rendering: tensors in, tensors out.

Begin with `models.reconstruct`, which draws the way from photos to a scene; `models.render` renders
it. `models.geometry` has the types that all share: `Camera`, `View`, `DepthMap` and `Gaussians`.
`nps_cli.api` reads photos, loads networks and writes scenes (see "Python" in README.md).

Conventions, everywhere in this package:

- Camera axes are OpenCV's: +x right, +y down, +z into the scene. The world is the first view's
  camera.
- A pose is a 4x4 matrix named by its direction: `world2cam`, `cam2world`, `first2second`.
- `intrinsics` are 3x3 and normalized: row 0 is divided by the image's width, row 1 by its height.
  `intrinsics_px` are in pixels.
- `coordinates` on an image run from (0, 0), the outer corner of the first pixel, to (1, 1), the
  outer corner of the last; the center of pixel i of n is (i + 0.5) / n.
- Images are RGB in [0, 1], channels first. A size is (height, width).
- A photo is a file's content, an image a tensor, a view an image with its camera, a rendering what
  `render` returns.
- Quaternions are unit, wxyz. Angles are radians; a name that ends in `_deg` says otherwise.
- Scales are lengths and opacities probabilities; logarithms and logits live in file formats only.
"""
