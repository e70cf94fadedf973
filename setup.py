"""Packaging: finds the packages below the mapped folders and ships the startup hook.

The mapping of folders to packages stands in pyproject.toml; every folder with an ``__init__.py``
below a mapped one is packaged.
"""

import tomllib
from pathlib import Path

from setuptools import Distribution, find_packages, setup  # isort: skip  (provides distutils)
from distutils.command.install_data import install_data

PROJECT = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())
FOLDERS = {
    package: folder
    for package, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()
    if package
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
    data_files=[("", ["backend_plugin/loader/keras_triton.pth"])],
    cmdclass={"install_data": InstallBesidePackages},
    distclass=DistributionWithData,
    options={"egg_info": {"egg_base": "."}},
)
