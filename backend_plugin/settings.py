"""Every environment variable of keras-triton, read in one place.

KERAS_TRITON_TARGET: auto, triton, cpu, interpret or reference; what kernels are built for.
KERAS_TRITON_DUMP: a directory; every stage of every compiled step is written there.
KERAS_TRITON_CACHE: a directory; compiled steps, tuning results, failing modules (default: the user's
    cache).
KERAS_TRITON_CACHE_SIZE: megabytes that compiled steps may take there; 0 keeps none.
KERAS_TRITON_AUTOTUNE: none, quick or full; how long configurations are searched.
KERAS_TRITON_CUDA_GRAPHS: on or off; whether a GPU's launches are recorded and replayed.
KERAS_TRITON_MEMORY_BUDGET: bytes ("2GiB") or a share ("0.8"); what a step may take at its peak.
KERAS_TRITON_VERBOSE: 0, 1 or 2; what is printed at exit.
"""

import atexit
import functools
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast, get_args

import platformdirs

Target = Literal["auto", "triton", "cpu", "interpret", "reference"]
Effort = Literal["none", "quick", "full"]

PREFIX = "KERAS_TRITON_"
NAMES = (
    "TARGET", "DUMP", "CACHE", "CACHE_SIZE", "AUTOTUNE", "CUDA_GRAPHS", "MEMORY_BUDGET", "VERBOSE"
)  # fmt: skip
SWITCH = ("on", "off")
LEVELS = ("0", "1", "2")


def default_cache() -> Path:
    """Where the operating system wants the user's caches."""
    return Path(platformdirs.user_cache_dir("keras-triton"))


@dataclass(frozen=True)
class Settings:
    """What the user asked for.

    target: "auto" takes Triton where a GPU is found and LLVM code for the CPU elsewhere;
        "interpret" runs Triton kernels in Triton's interpreter, "reference" runs the plain
        meaning of every op on torch.
    dump: where every stage of every compiled step is written, or None.
    cache: where compiled steps, tuning results and failing modules are kept between runs.
    cache_size: megabytes that compiled steps may take there; 0 keeps none.
    autotune: how long configurations are searched.
    cuda_graphs: a step on a GPU is recorded in a CUDA graph where that is safe.
    memory_budget: bytes that a step may take at its peak, or (a float) a share of what it takes
        otherwise; values are computed again rather than kept until that fits.
    verbose: at exit 0 says nothing, 1 a line for each compiled step, 2 a table for each.
    """

    target: Target = "auto"
    dump: Path | None = None
    cache: Path = field(default_factory=default_cache)
    cache_size: int = 500
    autotune: Effort = "none"
    cuda_graphs: bool = True
    memory_budget: int | float | None = None
    verbose: int = 0


def _choice(environment: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """The value of a variable with a fixed set of values; the first one is the default."""
    value = environment.get(PREFIX + name) or allowed[0]
    if value not in allowed:
        raise ValueError(f"{PREFIX}{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def _directory(environment: Mapping[str, str], name: str) -> Path | None:
    """The value of a variable that names a directory, which need not exist yet."""
    value = environment.get(PREFIX + name)
    if not value:
        return None
    path = Path(value).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{PREFIX}{name} must name a directory, not the file {value!r}.")
    return path


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    """The value of a variable that holds a whole number."""
    value = environment.get(PREFIX + name) or str(default)
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(f"{PREFIX}{name} must be a whole number, not {value!r}.")
    return int(value)


UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT", 1)
}


def _memory(environment: Mapping[str, str], name: str) -> int | float | None:
    """The value of a variable that holds bytes, with a unit or not, or a share of at most 1."""
    value = environment.get(PREFIX + name)
    if not value:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?i?B|)", value)
    number = float(match[1]) if match else 0.0
    if match and number > 0 and match[2] in UNITS:
        if not match[2] and "." in match[1] and number <= 1:
            return number
        if match[2] or "." not in match[1]:
            return int(number * UNITS[match[2]])
    raise ValueError(
        f"{PREFIX}{name} must be bytes, such as 2GiB or 500MB, or a share such as 0.8, not {value!r}."
    )


def read(environment: Mapping[str, str]) -> Settings:
    """Settings from a mapping of variables.

    Raises ValueError naming the variable, its value and what is allowed; an unknown variable that
    starts with KERAS_TRITON_ is refused too, since it is most likely a misspelt one.
    """
    known = [PREFIX + name for name in NAMES]
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ValueError(f"{unknown[0]} is not a variable of keras-triton: {', '.join(known)}.")
    return Settings(
        target=cast(Target, _choice(environment, "TARGET", get_args(Target))),
        dump=_directory(environment, "DUMP"),
        cache=_directory(environment, "CACHE") or default_cache(),
        cache_size=_number(environment, "CACHE_SIZE", Settings.cache_size),
        autotune=cast(Effort, _choice(environment, "AUTOTUNE", get_args(Effort))),
        cuda_graphs=_choice(environment, "CUDA_GRAPHS", SWITCH) == "on",
        memory_budget=_memory(environment, "MEMORY_BUDGET"),
        verbose=int(_choice(environment, "VERBOSE", LEVELS)),
    )


@functools.cache
def settings() -> Settings:
    """The process's settings, read at the first call; ``settings.cache_clear()`` rereads them.

    A cache folder that cannot be written (a read-only home) is replaced by one for this process,
    with a warning: what is tuned and what fails is wanted in this process, too.
    """
    chosen = read(os.environ)
    try:
        chosen.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen.cache):
            return chosen
    except OSError as error:
        folder = tempfile.mkdtemp(prefix="keras-triton-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        warnings.warn(
            f"keras-triton keeps nothing for the next run: {chosen.cache} cannot be written "
            f"({error.strerror}). {PREFIX}CACHE names another folder.",
            RuntimeWarning,
            stacklevel=2,
        )
        return replace(chosen, cache=Path(folder), cache_size=0)
