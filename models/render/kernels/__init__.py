"""The CPU rasterizer's inner loops, compiled by numba the first time that they run.

A kernel does one chunk of the work, of how many it is told, and releases Python's lock: its caller
brings the threads. Chunks that add up have sums of their own, so that the result depends on
nothing but the inputs and the number of chunks. Gradients are called `grad_` and what they are of.

Kernels carry `@no_type_check`: the shapes in their signatures are for people, and jaxtyping's
import hook would otherwise wrap the function that numba has to read. A kernel's helpers live in
its own file, since numba's cache on disk notices only changes of that file; who changes
`constants.py`, `layout.py`, `blocks.py`, `quaternions.py` or `vectors.py` has to remove
`__pycache__`.
"""
