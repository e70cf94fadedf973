"""HTML that cannot be broken by what stands in it: all text is escaped unless it is `Markup`."""

from __future__ import annotations

from html import escape

VOID = frozenset(["meta", "rect", "path", "line"])
"""Elements that have no content here."""


class Markup(str):
    """Text that is HTML already."""


def tag(name: str, /, *children: str, **attributes: str | int | float | bool) -> Markup:
    """An element. `class_` and `for_` stand for Python's keywords, `_` in names for `-`.

    True gives an attribute without a value, False none.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: str) -> Markup:
    """The children one after another, escaped where they are not `Markup`."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children))


def _attribute(key: str, value: str | int | float | bool) -> str:
    if value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
