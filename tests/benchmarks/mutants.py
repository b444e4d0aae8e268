"""Change the code and count the changes that a module's own tests notice.

`python tests/benchmarks/mutants.py [FILE...] [--count 12] [--seed 0]` draws changes of each file:
comparisons and conditions turned around, operators and signs swapped, constants moved, statements
dropped. Prints every change that the tests of the file's folder survive.
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
FILES = (
    *sorted(path.relative_to(ROOT) for path in (ROOT / "models/geometry").glob("[a-z]*.py")),
    *sorted(path.relative_to(ROOT) for path in (ROOT / "models/pose").glob("[a-z]*.py")),
    Path("models/sfm/hypotheses.py"),
    *(
        Path(f"nps_cli/formats/{name}.py")
        for name in (
            *("colmap", "glb", "nerfstudio", "ply", "poses", "provenance", "splat", "spz"),
            "__init__",
        )
    ),
)
SLOW = "a_picture_of_the_scene or test_plot or test_video"  # they test renderers and drawings
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=FILES)
    parser.add_argument("--count", type=int, default=12, help="changes drawn of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=int, default=300, help="of the tests, in CPU seconds")
    options = parser.parse_args()
    os.chdir(ROOT)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.insert(0, str(ROOT))
    _import_ahead()
    noticed = total = 0
    for file in options.files:
        mutants = list(mutants_of(file))
        drawn = random.Random(f"{options.seed} {file}").sample(
            mutants, min(options.count, len(mutants))
        )
        if not drawn:
            continue
        original = Mutant(file, 0, "", "", (ROOT / file).read_bytes())
        if not survives(original, options.timeout):
            sys.exit(f"{file}: its tests fail without any change")
        survivors = [mutant for mutant in drawn if survives(mutant, options.timeout)]
        noticed, total = noticed + len(drawn) - len(survivors), total + len(drawn)
        print(f"{file}: {len(drawn) - len(survivors)} of {len(drawn)} noticed", flush=True)
        for mutant in sorted(survivors, key=lambda each: each.line):
            print(f"  {file}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)
    print(f"{noticed} of {total} noticed ({100 * noticed / max(total, 1):.0f} %)")


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


def survives(mutant: Mutant, timeout: int) -> bool:
    """Run the tests of a file's folder on a change of it in a process of their own."""
    process = os.fork()
    if not process:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (timeout, timeout))
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        os._exit(_test(mutant))
    watched = os.pidfd_open(process)
    ended, _, _ = select.select([watched], [], [], 10 * timeout)
    if not ended:
        os.killpg(process, signal.SIGKILL)
    os.close(watched)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _test(mutant: Mutant) -> int:
    """Return pytest's exit code where a file reads as its change does."""
    path, loader = str(ROOT / mutant.file), importlib.machinery.SourceFileLoader
    get_data, path_stats = loader.get_data, loader.path_stats

    def changed_stats(self: object, asked: str) -> object:
        stats = path_stats(self, asked)
        return {**stats, "mtime": 1, "size": 1} if asked == path else stats  # no cached bytecode

    loader.get_data = lambda self, asked: mutant.source if asked == path else get_data(self, asked)
    loader.path_stats = changed_stats
    sys.dont_write_bytecode = True
    folder, name = mutant.file.parts[-2], mutant.file.stem
    own = ROOT / "tests" / folder / f"test_{name}.py"
    tests = [str(own)] if own.exists() else []
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-k", f"not ({SLOW})"]
    code = pytest.main(
        [*arguments, *tests, str(ROOT / "tests" / folder)]
        if folder != "sfm"
        else [*arguments, *tests]
    )
    return int(code)


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
