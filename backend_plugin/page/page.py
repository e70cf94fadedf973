"""The page: what a step costs, its launches, its memory, its kernels and every stage they came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keras_triton.kernels.device import Device

from ..report import Record, Report
from .graph import graph
from .kernels import kernel_sections
from .launches import launch_table, layer_list
from .markup import Markup, joined, tag
from .timeline import timeline

STYLE = Path(__file__).with_name("style.css")


def render(report: Report, gpu: Device | None = None) -> str:
    """The document; with a GPU, it says what that one's roofline allows each launch.

    Raises:
        ValueError: the report holds no stages; only those of `explain` do.
    """
    if not report.records:
        raise ValueError(
            f"the report of {report.step} holds no stages to show: keras_triton.explain makes one that "
            "does, and KERAS_TRITON_DUMP a page for each step that compiles"
        )
    title = f"{report.step} on {report.target}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE.read_text())),
    )
    lines = [line for line in (report.summary(), report.launching(), report.compared()) if line]
    opening = [tag("h1", title), *(tag("p", line) for line in lines)]
    programs = [_program(record, f"p{i}-", gpu) for i, record in enumerate(report.records)]
    body = tag("body", *opening, *programs)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _program(record: Record, anchor: str, gpu: Device | None) -> Markup:
    """All of one program; `anchor` begins each of its ids."""
    sections = {
        "Launches": launch_table(record, anchor, gpu),
        "Graph": graph(record, anchor),
        "Memory": timeline(record.plan, record.rows, anchor),
        "Layers": layer_list(record, anchor),
        "Kernels": kernel_sections(record, anchor, gpu),
        "Stages": joined(*_stages(record)),
    }
    ids = {name: f"{anchor}{name.lower()}" for name in sections}
    links = [tag("a", name, href=f"#{ids[name]}") for name in sections]
    parts = [
        tag("section", tag("h3", name), content, id=ids[name]) for name, content in sections.items()
    ]
    return joined(tag("h2", record.step), tag("nav", *links), *parts)


def _stages(record: Record) -> Iterator[Markup]:
    """The captured graph and the module of each stage, folded."""
    for file, text in sorted(record.texts.items()):
        size = f"{file} ({len(text.splitlines()):,} lines)"
        yield tag("details", tag("summary", size), tag("pre", text))
