"""The HTML page of a compiled step: whole, self-contained, linked, and safe whatever is in it."""

import re
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
import torch
from keras import layers

import keras_triton
from keras_triton import cli
from keras_triton.journal import stats
from keras_triton.kernels import device
from keras_triton.lowering.lifetimes import lifetimes, live_bytes, makers
from keras_triton.lowering.mlir import parse
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan import Loop, walk
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.page.markup import Markup, joined, tag

X, Y = np.ones((4, 5, 6), "float32"), np.array([0, 1, 2, 0])


class Page(HTMLParser):
    """Checks that every element is closed; gathers ids, links and everything that would be loaded."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.loaded, self.texts = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.loaded += [value for name, value in attributes if name in ("src", "srcset", "data")]
        self.loaded += [tag] if tag in ("script", "link", "iframe", "img", "object") else []
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag != "meta":
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def tagger():
    """A loop, a fallback, products and an optimizer."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6))
    x = layers.LSTM(4, name="reader")(inputs)
    x = layers.Lambda(lambda x: torch.logcumsumexp(x, -1), name="totals")(x)
    model = keras.Model(inputs, layers.Dense(3, name="classes")(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with its page's text."""
    report = keras_triton.explain(tagger(), X, Y)
    path = tmp_path_factory.mktemp("page") / "page.html"
    report.html(path, device.named("H100"))
    return report, path.read_text()


def test_it_is_well_formed_and_loads_nothing(page):
    _, text = page
    found = Page(text)
    assert found.loaded == []
    assert "http" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert "url(" not in text
    assert len(found.ids) == len(set(found.ids))


def test_every_link_leads_somewhere(page):
    found = Page(page[1])
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(found.links) > 50


def test_every_launch_kernel_layer_and_stage_is_there(page):
    report, text = page
    found = Page(text)
    (record,) = report.records
    assert len(report.rows) == sum(1 for _ in walk(record.plan.steps))
    assert {f"p0-launch-{i}" for i in range(len(report.rows))} <= set(found.ids)
    assert {f"p0-kernel-{name}" for name in record.plan.kernels} <= set(found.ids)
    for word in ("reader", "optimizer", "no dialect op for aten.logcumsumexp.default"):
        assert word in found.texts or f"fallback: {word}" in found.texts
    for file in ("0-captured.py", "1-keras.mlir", "2-linalg.mlir", "3-regions.mlir", "4-plan.mlir"):
        assert any(told.startswith(file) for told in found.texts)
    joined_texts = "".join(found.texts)
    assert "scf.for" in joined_texts  # the plan
    assert "define void" in joined_texts  # a kernel's LLVM IR
    assert "µs on H100" in joined_texts
    assert "bound by" in joined_texts


def test_both_passes_of_a_function_are_on_one_page(tmp_path):
    square = keras_triton.jit(lambda x: keras.ops.sum(keras.ops.tanh(x) * x))
    report = square.explain(torch.ones(4, requires_grad=True))
    assert len(report.records) == 2
    report.html(tmp_path / "page.html")
    found = Page((tmp_path / "page.html").read_text())
    assert {"p0-launch-0", "p1-launch-0"} <= set(found.ids)


def test_reports_of_training_keep_no_stages(tmp_path):
    tagger().train_on_batch(X, Y)
    report = stats().reports[-1]
    assert report.records == ()
    with pytest.raises(
        ValueError, match=r"holds no stages to show: keras_triton\.explain makes one"
    ):
        report.html(tmp_path / "page.html")
    assert "records" not in report.json()


MODULE = """module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<4x3xf32> {keras.name = "x"}) -> tensor<4x3xf32> {
    %0 = "keras.tanh"(%x) : (tensor<4x3xf32>) -> tensor<4x3xf32> loc("net/<dense> & \\"co\\"")
    return %0 : tensor<4x3xf32> } }"""


def test_the_command_writes_it_and_text_is_escaped(tmp_path, capsys):
    (tmp_path / "step.mlir").write_text(MODULE.replace('\\"', ""))
    path = tmp_path / "page.html"
    assert cli.main(["compile", str(tmp_path / "step.mlir"), "--html", str(path)]) == 0
    found = Page(path.read_text())
    assert "net/<dense> & co" in found.texts
    assert "<dense>" not in path.read_text()


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    (tmp_path / "step.mlir").write_text(MODULE.replace('\\"', ""))
    missing = str(tmp_path / "absent" / "page.html")
    assert cli.main(["compile", str(tmp_path / "step.mlir"), "--html", missing]) == 2
    assert "No such file" in capsys.readouterr().err


def test_markup_escapes_all_but_itself():
    made = tag("a", "<b>", Markup("<i/>"), href='"x"', class_="y", hidden=True, lang=False)
    assert made == '<a href="&quot;x&quot;" class="y" hidden>&lt;b&gt;<i/></a>'
    assert tag("rect", x=1) == '<rect x="1"/>'
    assert joined("&", Markup("&")) == "&amp;&"


SQUARE = "tensor<16x16xf32>"


def products(*pairs):
    """A chain of matrix products; the names of what each multiplies."""
    lines = [
        f'%{i} = "keras.matmul"(%{a}, %{b}) {{transpose_a = false, transpose_b = false}} '
        f": ({SQUARE}, {SQUARE}) -> {SQUARE}"
        for i, (a, b) in enumerate(pairs)
    ]
    return parse(
        f"""module attributes {{keras.stage = "keras"}} {{ func.func @main(
        %x: {SQUARE} {{keras.name = "x"}}, %w: {SQUARE} {{keras.name = "w"}}) -> {SQUARE} {{
        {" ".join(lines)} return %{len(lines) - 1} : {SQUARE} }} }}"""
    )


def test_lifetimes_say_who_holds_which_bytes_when():
    plan = read_plan(lower(products("xw", "0w", "10", "2w", "3w")))
    pieces = lifetimes(plan)
    assert [(piece.first, piece.last) for piece in pieces] == [(0, 2), (1, 2), (2, 3), (3, 4)]
    assert live_bytes(pieces, 5) == [1024, 2048, 3072, 2048, 1024]
    assert makers(plan) == [[], [0], [1, 0], [2], [3]]
    assert max(live_bytes(pieces, 5)) <= plan.arena_bytes
    assert plan.arena_bytes == max(piece.end for piece in pieces)


def test_a_loop_reads_at_its_first_launch_and_makes_at_its_last(page):
    (record,) = page[0].records
    plan, pieces = record.plan, lifetimes(record.plan)
    assert max(live_bytes(pieces, len(record.rows))) <= plan.arena_bytes
    first = 0
    for step in plan.steps:
        count = sum(1 for _ in walk([step]))
        if isinstance(step, Loop):
            inside = set(range(first, first + count))
            assert set(makers(plan)[first]) & set(range(first))
            assert not any(makers(plan)[i] for i in inside - {first})
            assert not any(piece.first in inside - {first} for piece in pieces)
        first += count


def test_no_two_pieces_in_use_share_bytes():
    """But for what is written in place of what it is made from, in the very launch that reads it."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(3)])
    model.compile("adam", "mse")
    (record,) = keras_triton.explain(model, X[:, 0], np.ones((4, 3), "float32")).records
    pieces = lifetimes(record.plan)
    assert len(pieces) > 3
    for i, one in enumerate(pieces):
        for other in pieces[i + 1 :]:
            if one.start < other.end and other.start < one.end:
                assert one.last <= other.first or other.last <= one.first
