"""The version of hybridface, as `pyproject.toml` has it."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("hybridface")
