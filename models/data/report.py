"""A report of reading data: bad data is skipped, but counted and named."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, order=True)
class Skipped:
    """Something that could not be used, with the first reason met."""

    kind: str  # what it is: "chunk", "scene", "frame", "example", "pair" or "photo"
    where: str
    why: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.where}: {self.why}"


@dataclass
class Report:
    """Counts of what was used and what was skipped; they grow while data is read."""

    used: Counter[str] = field(default_factory=Counter)  # by kind
    skipped: Counter[Skipped] = field(default_factory=Counter)  # how often each was met
    notes: dict[str, list[str]] = field(default_factory=dict)  # what to know, and where it holds

    def use(self, kind: str, count: int = 1) -> None:
        """Count what was used."""
        self.used[kind] += count

    def skip(self, kind: str, where: str, why: str) -> None:
        """Count and name what was skipped."""
        self.skipped[Skipped(kind, where, why)] += 1

    def note(self, what: str, where: str) -> None:
        """Note something that is no reason to skip anything."""
        self.notes.setdefault(what, []).append(where)

    def add(self, other: "Report") -> None:
        """Add the counts and notes of another report."""
        self.used.update(other.used)
        self.skipped.update(other.skipped)
        for what, places in other.notes.items():
            self.notes.setdefault(what, []).extend(places)

    def summary(self) -> str:
        """Summarize in one line how many of each kind were used.

        Examples are sampled again and again, and count every time.
        """
        failed = Counter[str]()
        for what, times in sorted(self.skipped.items()):
            failed[what.kind] += times if what.kind == "example" else 1
        return ", ".join([
            *(f"{n} of {n + failed[kind]} {kind}s" for kind, n in self.used.items()),
            *(f"{n} {kind}{'s' * (n > 1)} skipped" for kind, n in failed.items()
              if kind not in self.used),
        ])  # fmt: skip

    def lines(self, limit: int = 20) -> list[str]:
        """List the summary, notes, and what was skipped and why; beyond the limit only a count."""
        named = [f"{what}: {', '.join(places)}" for what, places in self.notes.items()]
        named += [str(skipped) for skipped in sorted(self.skipped)]
        more = [f"and {len(named) - limit} more"] if len(named) > limit else []
        return [self.summary(), *named[:limit], *more]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        skipped = sorted(self.skipped.items())
        return {
            "used": dict(self.used),
            "skipped": [asdict(what) | {"times": times} for what, times in skipped],
            "notes": self.notes,
        }
