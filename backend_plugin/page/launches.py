"""The launches of a program as a table, and its Keras layers with the kernels that each went into."""

from __future__ import annotations

from collections.abc import Iterable

from keras_triton.kernels.device import Device

from ..report import Record, Row, columns
from .markup import Markup, joined, tag


def figures(row: Row, record: Record, gpu: Device | None) -> dict[str, str]:
    """What is told in numbers of one launch, by name: a column of the table, a line of the kernel."""
    loops = any(other.times != 1 for other in record.rows)
    found = {name: show(row) for name, show in columns(True, loops, gpu).items()}
    if gpu is not None:
        memory = row.bytes / gpu.bandwidth >= row.cost.seconds(gpu)
        found["bound by"] = "memory" if memory else "arithmetic"
    return found


def launch_table(record: Record, anchor: str, gpu: Device | None) -> Markup:
    """A row a launch, with links to its kernel and its layers."""
    names = list(figures(record.rows[0], record, gpu)) if record.rows else []
    heads = [tag("th", name) for name in ("", "kernel", "runs as", "layers", *names, "notes")]
    body = [
        _line(number, row, record, anchor, gpu, known=layers(record))
        for number, row in enumerate(record.rows)
    ]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body))


def _line(
    number: int, row: Row, record: Record, anchor: str, gpu: Device | None, known: list[str]
) -> Markup:
    numbers = figures(row, record, gpu).values()
    cells = [
        tag("td", str(number)),
        tag("td", kernel_link(row, record, anchor)),
        tag("td", row.how),
        tag("td", layer_links(row.layers, known, anchor)),
        *(tag("td", value, class_="number") for value in numbers),
        tag("td", row.note),
    ]
    return tag(
        "tr", *cells, id=f"{anchor}launch-{number}", class_="fallback" if row.fallback else ""
    )


def layers(record: Record) -> list[str]:
    """The layers of a program, in the order in which they are met."""
    return list(dict.fromkeys(layer for row in record.rows for layer in row.layers))


def kernel_link(row: Row, record: Record, anchor: str) -> str:
    """The kernel's name, a link where the page shows it (a copy is none)."""
    if row.kernel not in record.plan.kernels:
        return row.kernel
    return tag("a", row.kernel, href=f"#{anchor}kernel-{row.kernel}")


def layer_links(names: Iterable[str], known: list[str], anchor: str) -> Markup:
    links = [tag("a", name, href=f"#{anchor}layer-{known.index(name)}") for name in names]
    return joined(*(tag("div", link) for link in links))


def layer_list(record: Record, anchor: str) -> Markup:
    """Each layer with the launches that hold its ops."""
    known, lines = layers(record), []
    for place, layer in enumerate(known):
        within = [(i, row) for i, row in enumerate(record.rows) if layer in row.layers]
        links = [
            tag("a", f"{number} {row.kernel}", href=f"#{anchor}launch-{number}")
            for number, row in within
        ]
        shared = [joined(link, " ") for link in links]
        lines.append(tag("li", tag("b", layer), " ", *shared, id=f"{anchor}layer-{place}"))
    return tag("ul", *lines)
