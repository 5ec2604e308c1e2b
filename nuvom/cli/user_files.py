"""Imports a Python file that somebody named on the command line."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

import click

from nuvom.discovery.importer import is_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from nuvom.errors import NuvomError


def import_file(path: Path, failure: Callable[[BaseException], NuvomError]) -> ModuleType:
    """Return the module of a file, imported under its bare name.

    Args:
        failure: Makes the error that is raised from whatever the file raises.

    Raises: what ``failure`` returns; click.UsageError: it is no Python file.
    """
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is no Python file.")
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # user code: whatever it raises is named
        if is_interrupt(error):
            raise
        raise failure(error) from error
    return module
