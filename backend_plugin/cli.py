"""The command `keras-triton`: compile, explain, verify, compare, check and keep what the compiler makes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

TARGETS = ("cpu", "interpret", "triton", "reference")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 0 done, 1 a check failed, 2 bad input."""
    # The commands that build a model need Keras on this backend; Keras reads the variable when
    # imported.
    os.environ["KERAS_BACKEND"] = "triton"
    options = _parser().parse_args(arguments)
    from keras_triton.lowering.errors import LoweringError

    from .capture_errors import CaptureError

    try:
        return options.run(options)
    except (CaptureError, LoweringError, OSError, ValueError) as error:
        # MLIR and Keras spread their sentences over lines.
        print("keras-triton:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "keras-triton", description="Open the compiler: every stage, every kernel."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    compile_ = commands.add_parser(
        "compile", help="go on from a dumped stage (STAGE.mlir) to compiled kernels"
    )
    compile_.add_argument(
        "stage", type=Path, help="a module of stage keras, linalg, regions or plan"
    )
    _common(compile_)
    compile_.set_defaults(run=_compile)

    explain = commands.add_parser(
        "explain", help="list every op of a model's steps with where it went"
    )
    explain.add_argument(
        "model", help="a saved model (.keras), or 'digits' or 'mlp' for the built-in examples"
    )
    explain.add_argument("--batch", type=_positive, default=32, help="batch size (default 32)")
    explain.add_argument("--step", choices=("train", "predict"), default="predict")
    _common(explain)
    explain.set_defaults(run=_explain)

    verify = commands.add_parser(
        "verify", help="run a model's step and say how far each layer is from float64"
    )
    verify.add_argument("model", help="as for explain")
    verify.add_argument("--batch", type=_positive, default=32, help="batch size (default 32)")
    verify.add_argument("--step", choices=("train", "predict"), default="predict")
    verify.add_argument("--target", choices=TARGETS, default=None)
    verify.add_argument("--json", action="store_true", help="print JSON instead of a table")
    verify.set_defaults(run=_verify)

    compare = commands.add_parser(
        "compare", help="run a stage on random inputs through all targets of this machine"
    )
    compare.add_argument("stage", type=Path)
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--json", action="store_true")
    compare.set_defaults(run=_compare)

    opt = commands.add_parser(
        "opt",
        help="run passes by name on a dumped stage and print what they make of it",
        description="Runs the named passes on a module, in that order, and prints the module after "
        "them, with its locations: what `opt -` reads again.",
        add_help=False,
    )
    opt.add_argument("-h", "--help", action=_OptHelp, help="say this, and list the passes")
    opt.add_argument("stage", nargs="?", help="a module of any stage; - reads it from stdin")
    opt.add_argument(
        "--pass", action="append", default=[], dest="passes", metavar="NAME", help="may be repeated"
    )
    opt.add_argument("--list", action="store_true", help="list the passes instead")
    opt.add_argument(
        "--target",
        choices=TARGETS,
        default=None,
        help="whose options the passes take; as elsewhere",
    )
    opt.set_defaults(run=_opt)

    check = commands.add_parser(
        "check", help="build every kernel for sm_80, sm_90 and sm_100; no GPU needed"
    )
    check.add_argument("--json", action="store_true")
    check.add_argument(
        "--quick", action="store_true", help="templates only, one configuration each"
    )
    check.set_defaults(run=_check)

    cache = commands.add_parser("cache", help="the compiled steps kept on disk for the next run")
    cache.add_argument("--clear", action="store_true", help="remove them")
    cache.add_argument("--json", action="store_true", help="print JSON instead of a table")
    cache.set_defaults(run=_cache)

    info = commands.add_parser("info", help="versions, devices and settings")
    info.set_defaults(run=_info)
    return parser


class _OptHelp(argparse.Action):
    """Help that ends in the passes, whose list is only made when somebody asks for it."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_unused: object) -> NoReturn:
        from . import opt

        print(parser.format_help())
        opt.print_passes(None)
        parser.exit()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return int(text)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default=None,
        help="default: KERAS_TRITON_TARGET, else the device's",
    )
    parser.add_argument(
        "--dump", type=Path, default=None, metavar="DIR", help="write every stage and kernel there"
    )
    parser.add_argument(
        "--html", type=Path, default=None, metavar="PAGE", help="write all of it as one HTML page"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--gpu",
        type=_gpu,
        default=None,
        metavar="NAME",
        help="show the time that its roofline allows each kernel (A100, H100, H200, B200)",
    )


def _gpu(name: str):
    from keras_triton.kernels import device

    try:
        return device.named(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _compile(options: argparse.Namespace) -> int:
    from . import tools

    report = tools.compile_stage(options.stage, options.target, options.dump)
    if options.html is not None:
        report.html(options.html, options.gpu)
    return _show(report, options.json, gpu=options.gpu)


def _explain(options: argparse.Namespace) -> int:
    from . import tools

    report = tools.explain_model(
        options.model, options.step, options.batch, options.target, options.dump
    )
    if options.html is not None:
        report.html(options.html, options.gpu)
    return _show(report, options.json, gpu=options.gpu)


def _verify(options: argparse.Namespace) -> int:
    from . import tools

    found = tools.verify_model(options.model, options.step, options.batch, options.target)
    _show(found, options.json)
    return int(not found.ok)


def _show(report, as_json: bool, **shown) -> int:
    if as_json:
        print(report.json(**shown))
    else:
        report.print(**shown)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from . import tools

    return tools.compare_targets(options.stage, options.seed, options.json)


def _opt(options: argparse.Namespace) -> int:
    from . import opt

    if options.list:
        opt.print_passes(options.target)
    elif options.stage is None or not options.passes:
        raise ValueError("opt takes a module and at least one --pass NAME, or --list")
    else:
        print(opt.run(options.stage, options.passes, options.target), end="")
    return 0


def _check(options: argparse.Namespace) -> int:
    from . import check

    return check.main(quick=options.quick, as_json=options.json)


def _cache(options: argparse.Namespace) -> int:
    from . import compile_cache

    _show(compile_cache.clear() if options.clear else compile_cache.look(), options.json)
    return 0


def _info(options: argparse.Namespace) -> int:
    from . import tools

    tools.print_info()
    return 0
