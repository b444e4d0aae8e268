"""Change the code and count the changes that tests notice.

`python tests/benchmarks/mutants.py [PART...] [--count 60] [--seed 0]` draws changes of a part:
comparisons and conditions turned around, operators and signs swapped, constants moved, statements
dropped. Prints every change that the part's tests survive, with the reason that `survivors.txt`
gives for it.
"""

import argparse
import ast
import copy
import importlib.machinery
import os
import random
import resource
import select
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = {  # modules, and tests that are run before those of a module's own name
    "geometry": (("models/geometry/[a-z]*.py",), ("geometry",)),
    "pose": (("models/pose/[a-z]*.py", "models/confidence.py"), ()),
    "likelihood": (
        tuple(f"models/sfm/{name}.py" for name in ("hypotheses", "affine_matches", "two_view")),
        tuple(f"sfm/test_{name}.py" for name in ("likelihood", "epipolar_errors")),
    ),
    "formats": (
        tuple(
            f"nps_cli/formats/{name}.py"
            for name in (
                *("__init__", "colmap", "compressed_ply", "glb", "glb_reader", "kinds", "ksplat"),
                *("nerfstudio", "ply", "ply_header", "poses", "provenance", "read", "scene_file"),
                *("sog", "splat", "spz", "spz_bits"),
            )
        ),
        tuple(
            f"formats/test_{name}.py"
            for name in (
                "format_facts",
                "glb_facts",
                "scene_files",
                "foreign_scenes",
                "pose_document",
                "ply",
            )
        ),
    ),
}
SURVIVORS = Path(__file__).with_name("survivors.txt")
SLOW = "a_picture_of_the_scene"  # it tests a renderer
LEAST_SECONDS = 30  # of CPU time, for tests of a change; or three times what they take without
MEMORY_BYTES = 12 << 30
OPPOSITES = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True)
class Mutant:
    """A changed file."""

    file: Path
    line: int
    before: str
    after: str
    source: bytes

    @property
    def name(self) -> str:
        """The file and the change."""
        return f"{self.file.stem}: {self.before}  ->  {self.after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--count", type=int, default=60, help="changes drawn of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="changes whose file or text holds this")
    options = parser.parse_args()
    os.chdir(ROOT)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.insert(0, str(ROOT))
    _import_ahead()
    for part in options.parts:
        drawn = [
            each for each in draw(part, options.count, options.seed) if options.only in each.name
        ]
        survivors = list(find_survivors(drawn, part))
        noticed = len(drawn) - len(survivors)
        print(f"{part}: {noticed} of {len(drawn)} noticed ({100 * noticed / len(drawn):.0f} %)")


def draw(part: str, count: int, seed: int) -> list["Mutant"]:
    """Draw changes of the modules of a part, sorted by module."""
    files = sorted(file for pattern in PARTS[part][0] for file in ROOT.glob(pattern))
    mutants = [each for file in files for each in mutants_of(file.relative_to(ROOT))]
    drawn = random.Random(f"{seed} {part}").sample(mutants, min(count, len(mutants)))
    return sorted(drawn, key=lambda each: (each.file, each.line))


def find_survivors(mutants: list["Mutant"], part: str) -> Iterator["Mutant"]:
    """Yield, and print, the changes that the tests do not notice."""
    reasons = dict(line.split("  # ") for line in SURVIVORS.read_text().splitlines() if line)
    file, seconds = None, 0.0
    for mutant in mutants:
        tests = _tests(mutant.file, part)
        if mutant.file != file:
            file, start = mutant.file, os.times().children_user
            if not survives(Mutant(file, 0, "", "", (ROOT / file).read_bytes()), tests, 600):
                sys.exit(f"{file}: its tests fail without any change")
            seconds = 3 * (os.times().children_user - start)
        if survives(mutant, tests, max(LEAST_SECONDS, int(seconds))):
            reason = reasons.get(mutant.name, "unexplained")
            print(f"  {mutant.file}:{mutant.line}: {mutant.name}  # {reason}", flush=True)
            yield mutant


def _tests(file: Path, part: str) -> list[str]:
    """Return a part's tests, then those of a module's own name."""
    folder = file.parts[1] if len(file.parts) > 2 else ""
    own = sorted((ROOT / "tests" / folder).glob(f"test_{file.stem}*.py"), reverse=True)
    return [str(each) for each in (*(ROOT / "tests" / other for other in PARTS[part][1]), *own)]


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Yield all changes of a file, one at a time."""
    tree = ast.parse((ROOT / file).read_text())
    for node, parent in _places(tree):
        kept = copy.copy(node.__dict__)
        shown = parent if isinstance(parent, ast.expr | ast.Assign) else node
        before = ast.unparse(shown)
        for change in _changes(node):
            node.__dict__.update(change)
            source = ast.unparse(ast.fix_missing_locations(tree)).encode()
            yield Mutant(file, node.lineno, before, ast.unparse(shown), source)
            node.__dict__.update(kept)
        if isinstance(parent, list) and _can_be_dropped(node):
            place = parent.index(node)
            parent[place] = ast.copy_location(ast.Pass(), node)
            source = ast.unparse(tree).encode()
            yield Mutant(file, node.lineno, before, "dropped", source)
            parent[place] = node


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, object]]:
    """Yield all code that decides something, with the expression or list that it is part of."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "exc", "cause", "msg"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.JoinedStr | ast.ImportFrom | ast.Import):
                continue
            if isinstance(child, ast.keyword) and child.arg in ("dim", "dim1", "dim2"):
                continue  # another axis raises: too easy
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(node, ast.UnaryOp) and isinstance(child, ast.Constant):
                continue  # the sign is changed
            if isinstance(child, ast.AST):
                yield child, value if isinstance(child, ast.stmt) else node
                yield from _places(child)


def _changes(node: ast.AST) -> Iterator[dict[str, object]]:
    """Yield new attributes of a node, each a change."""
    match node:
        case ast.Compare(ops=[operator]) | ast.BoolOp(op=operator) | ast.BinOp(op=operator):
            if new := OPPOSITES.get(type(operator)):
                yield {"ops": [new()]} if isinstance(node, ast.Compare) else {"op": new()}
            elif isinstance(operator, ast.MatMult):
                yield {"left": node.right, "right": node.left}
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield (
                {"op": ast.UAdd()}
                if isinstance(node.op, ast.USub)
                else {"operand": ast.UnaryOp(node.op, node.operand)}
            )
        case ast.Constant(value=bool() as value):
            yield {"value": not value}
        case ast.Constant(value=int() as value):
            yield {"value": value + 1}
            yield {"value": value - 1}
        case ast.Constant(value=float() as value):
            yield {"value": 2 * value or 1.0}
        case ast.If() | ast.IfExp() if not isinstance(node.test, ast.Compare | ast.UnaryOp):
            yield {"test": ast.UnaryOp(ast.Not(), node.test)}


def _can_be_dropped(node: ast.AST) -> bool:
    """Return True for what changes something else than a new name, and is no docstring."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return False
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            return True
        case ast.Assign(targets=[target]):
            return not isinstance(target, ast.Name | ast.Tuple)
    return False


def survives(mutant: Mutant, tests: list[str], timeout: int) -> bool:
    """Run tests on a change in a process of their own."""
    process = os.fork()
    if not process:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (timeout, timeout))
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        os._exit(_test(mutant, tests))
    watched = os.pidfd_open(process)
    ended, _, _ = select.select([watched], [], [], 10 * timeout)
    if not ended:
        os.killpg(process, signal.SIGKILL)
    os.close(watched)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _test(mutant: Mutant, tests: list[str]) -> int:
    """Return pytest's exit code where a file reads as its change does."""
    path, loader = str(ROOT / mutant.file), importlib.machinery.SourceFileLoader
    get_data, path_stats = loader.get_data, loader.path_stats

    def changed_stats(self: object, asked: str) -> object:
        stats = path_stats(self, asked)
        return {**stats, "mtime": 1, "size": 1} if asked == path else stats  # no cached bytecode

    loader.get_data = lambda self, asked: mutant.source if asked == path else get_data(self, asked)
    loader.path_stats = changed_stats
    sys.dont_write_bytecode = True
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", f"not ({SLOW})", *tests]))


def _import_ahead() -> None:
    """Import what is slow, and not ours, once."""
    import beartype  # noqa: F401
    import cv2  # noqa: F401
    import jaxtyping  # noqa: F401
    import PIL.Image  # noqa: F401
    import plyfile  # noqa: F401
    import poselib  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import typer  # noqa: F401

    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
