"""The CPU rasterizer's inner loops, compiled by numba the first time that they run.

Kernels carry `@no_type_check`: the shapes in their signatures are for people, and jaxtyping's
import hook would otherwise wrap the function that numba has to read. A kernel's helpers live in
its own file, since numba's cache on disk notices only changes of that file.

Every kernel cuts its work into `threads` parts and adds up in a fixed order, so that its answer
depends on nothing but its inputs and that number.
"""
