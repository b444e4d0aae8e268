"""The CPU rasterizer's inner loops, compiled by numba the first time that they run.

A kernel does one part of the work, of how many it is told, and lets go of Python's lock: whoever
calls it brings the threads. Parts that add up have sums of their own, so that the answer depends
on nothing but the inputs and the number of parts.

Kernels carry `@no_type_check`: the shapes in their signatures are for people, and jaxtyping's
import hook would otherwise wrap the function that numba has to read. A kernel's helpers live in
its own file, since numba's cache on disk notices only changes of that file; who changes
`layout.py`, `vectors.py` or `rules.py` has to remove `__pycache__`.
"""
