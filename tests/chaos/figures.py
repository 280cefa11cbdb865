"""What the suite has seen, as a small table for the end of its output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Figures:
    """Lines of figures under headings, in the order in which they came."""

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, section: str, name: str, figure: object) -> None:
        self.sections.setdefault(section, []).append((name, f"{figure:,}" if isinstance(figure, int) else str(figure)))

    def lines(self) -> Iterator[str]:
        """
        >>> f = Figures()
        >>> f.add("kills", "points", 1000)
        >>> list(f.lines())
        ['kills', '  points  1,000']
        """
        names = [name for lines in self.sections.values() for name, _ in lines]
        figures = [figure for lines in self.sections.values() for _, figure in lines]
        left, right = max(map(len, names), default=0), max(map(len, figures), default=0)
        for section, lines in self.sections.items():
            yield section
            for name, figure in lines:
                yield f"  {name:<{left}}  {figure:>{right}}"
