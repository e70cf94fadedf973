"""Packaging: maps the repository's folders to packages and ships the startup hook.

The folders carry the names of the compiler's parts (kernels, lowering, ...); installed, they are
subpackages of keras_triton. Every folder with an ``__init__.py`` below them is packaged.
"""

from setuptools import Distribution, find_packages, setup  # isort: skip  (provides distutils)
from distutils.command.install_data import install_data

FOLDERS = {
    "keras_triton": "backend_plugin",
    "keras_triton.kernels": "kernels",
    "keras_triton.lowering": "lowering",
    "keras_triton.autotune": "autotune",
    "keras_triton.bench": "bench",
}


class InstallBesidePackages(install_data):
    """Put data files into site-packages: the only place where Python reads ``.pth`` files."""

    def finalize_options(self) -> None:
        self.set_undefined_options("install", ("install_lib", "install_dir"))
        super().finalize_options()


class DistributionWithData(Distribution):
    """Editable installs ask for ``has_data`` where wheels ask for ``has_data_files``."""

    def has_data(self) -> bool:
        return bool(self.has_data_files())


setup(
    packages=[
        package
        for root, folder in FOLDERS.items()
        for package in (root, *(f"{root}.{name}" for name in find_packages(folder)))
    ],
    package_dir={"": "backend_plugin/loader", **FOLDERS},
    py_modules=["triton_keras_loader"],
    package_data={"": ["py.typed", "**/*.json"]},
    include_package_data=False,
    data_files=[("", ["backend_plugin/loader/keras_triton.pth"])],
    cmdclass={"install_data": InstallBesidePackages},
    distclass=DistributionWithData,
    options={"egg_info": {"egg_base": "."}},
)
