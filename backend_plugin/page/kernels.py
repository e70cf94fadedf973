"""Each kernel of a program: what was fused into it and why no more, its figures, and its sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keras_triton.kernels.device import Device
from keras_triton.lowering.lifetimes import makers

from ..report import Record, counted
from .launches import figures, layer_links, layers
from .markup import Markup, joined, tag


def kernel_sections(record: Record, anchor: str, gpu: Device | None) -> Markup:
    """A section a kernel, in the order of their first launches."""
    made_by, known = makers(record.plan), layers(record)
    launches: dict[str, list[int]] = {}
    for number, row in enumerate(record.rows):
        if row.kernel in record.plan.kernels:
            launches.setdefault(row.kernel, []).append(number)
    parts = []
    for name, numbers in launches.items():
        row = record.rows[numbers[0]]
        sources = list(dict.fromkeys(maker for number in numbers for maker in made_by[number]))
        facts = {
            "runs as": row.how,
            "layers": layer_links(row.layers, known, anchor),
            "ops": counted(row.ops),
            "launches": _links(numbers, record, anchor),
            "reads what these made": _links(sources, record, anchor),
            "not one with": row.reason,
            "fallback": row.fallback,
            **figures(row, record, gpu),
        }
        texts = {"region": _region(record, name), **_files(record, name)}
        parts.append(
            tag(
                "section",
                tag("h4", name),
                _facts(facts),
                *_folded(texts),
                id=f"{anchor}kernel-{name}",
            )
        )
    return joined(*parts)


def _links(numbers: list[int], record: Record, anchor: str) -> Markup:
    return joined(
        *(
            joined(tag("a", f"{i} {record.rows[i].kernel}", href=f"#{anchor}launch-{i}"), " ")
            for i in numbers
        )
    )


def _facts(facts: Mapping[str, str]) -> Markup:
    """Names and values, without those of which there is nothing to tell."""
    told = [(name, value) for name, value in facts.items() if value]
    return tag("dl", *(joined(tag("dt", name), tag("dd", value)) for name, value in told))


def _region(record: Record, name: str) -> str:
    return record.plan.kernels[name].operation.get_asm(use_local_scope=True)


def _files(record: Record, name: str) -> Mapping[str, str]:
    """The sources that a target made; or why they could not be made."""
    if name not in record.kernels:
        return {}
    try:
        return record.kernels[name]()
    except Exception as error:  # whatever Triton and ptxas raise: a look changes nothing
        return {"error": f"{type(error).__name__}: {error}"}


def _folded(texts: Mapping[str, str]) -> Iterator[Markup]:
    for name, text in texts.items():
        yield tag("details", tag("summary", name), tag("pre", text))
