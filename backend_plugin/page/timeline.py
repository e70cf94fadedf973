"""The arena over time as a drawing: a rectangle for each piece, from its bytes and its launches."""

from __future__ import annotations

from collections.abc import Sequence

from keras_triton.lowering.lifetimes import Lifetime, lifetimes, live_bytes
from keras_triton.lowering.plan import Plan

from ..report import Row
from .markup import Markup, joined, tag

WIDTH, HEIGHT = 1000.0, 280.0
COLOURS = 7
"""As many as the style sheet has (`c0`...)."""


def timeline(plan: Plan, rows: Sequence[Row], anchor: str) -> Markup:
    """An SVG of the arena: launches go right, bytes go down; each piece links to what fills it.

    Args:
        rows: the launches, in the order of the plan.
        anchor: begins the ids of the launches: launch 3 has `<anchor>launch-3`.
    """
    if not plan.arena_bytes or not rows:
        return tag("p", "This step keeps no temporaries.")
    pieces = lifetimes(plan)
    across, down = WIDTH / len(rows), HEIGHT / plan.arena_bytes
    drawn = [_piece(piece, rows, anchor, across, down) for piece in pieces]
    live = live_bytes(pieces, len(rows))
    fullest = max(range(len(rows)), key=live.__getitem__)
    caption = (
        f"{len(pieces)} pieces in an arena of {plan.arena_bytes:,} bytes. Most is in use during launch "
        f"{fullest} ({rows[fullest].kernel}): {live[fullest]:,} bytes, "
        f"{100 * live[fullest] // plan.arena_bytes}% of it."
    )
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    return joined(
        tag("p", caption),
        tag("svg", *drawn, viewBox=box, class_="timeline", preserveAspectRatio="none", role="img"),
        tag("p", "Launches go from left to right, the bytes of the arena from top to bottom."),
    )


def _piece(piece: Lifetime, rows: Sequence[Row], anchor: str, across: float, down: float) -> Markup:
    row = rows[piece.first]
    size = piece.end - piece.start
    told = (
        f"{row.kernel} ({', '.join(row.layers)}): {size:,} bytes at {piece.start:,}, "
        f"launches {piece.first} to {piece.last}"
    )
    rectangle = tag(
        "rect",
        tag("title", told),
        x=f"{piece.first * across:.2f}",
        y=f"{piece.start * down:.2f}",
        width=f"{(piece.last - piece.first + 1) * across:.2f}",
        height=f"{max(size * down, 0.5):.2f}",
        class_=f"c{piece.first % COLOURS}",
    )
    return tag("a", rectangle, href=f"#{anchor}launch-{piece.first}")
