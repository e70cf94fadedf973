"""The launches as a drawing of who reads what whom made: from top to bottom, with an arc for each edge."""

from __future__ import annotations

from keras_triton.lowering.lifetimes import makers

from ..report import Record
from .markup import Markup, tag

LINE, LEFT, WIDTH = 16, 240, 1000
"""Height of a launch, room for arcs, width of the drawing."""


def graph(record: Record, anchor: str) -> Markup:
    """An SVG: each launch by name and layers, a link to its row; what it reads comes from the left."""
    arcs = [
        _arc(maker, reader)
        for reader, sources in enumerate(makers(record.plan))
        for maker in sources
    ]
    names = []
    for number, row in enumerate(record.rows):
        told = f"{number} {row.kernel}  {', '.join(row.layers)}"
        text = tag("text", told, x=LEFT + 8, y=_middle(number) + 4)
        names.append(tag("a", text, href=f"#{anchor}launch-{number}"))
    height = LINE * max(len(record.rows), 1)
    box = f"0 0 {WIDTH} {height}"
    return tag("svg", *arcs, *names, viewBox=box, width=WIDTH, height=height, class_="graph")


def _middle(launch: int) -> int:
    return launch * LINE + LINE // 2


def _arc(maker: int, reader: int) -> Markup:
    """Further apart, further out."""
    out = LEFT - min(LEFT - 4, 24 * (reader - maker) ** 0.6)
    start, end = _middle(maker), _middle(reader)
    return tag("path", d=f"M {LEFT} {start} C {out:.0f} {start} {out:.0f} {end} {LEFT} {end}")
