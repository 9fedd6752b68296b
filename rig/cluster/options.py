"""What a command takes for more than one recording; nothing of it is loaded before it is asked for."""

import argparse
import re
from types import ModuleType

from rig.errors import UsageError

SCHEME = re.compile(r"[a-z0-9+]{2,}:/")  # a drive of Windows has one letter


def add(parser: argparse.ArgumentParser) -> None:
    """The option that both commands have."""
    parser.add_argument(
        "--executor",
        metavar="local|dask://HOST:PORT",
        help="any number of recordings, also by address with wildcards (s3://bucket/cars/*/2026-11-*), on processes of "
        "this machine or on a Dask cluster (docs/fleet.md)",
    )


def is_meant(options: argparse.Namespace) -> bool:
    """Whether a command was given something else than files and one recording's folder on this machine."""
    addresses = (*options.sources, options.output or "")
    return options.executor is not None or any(SCHEME.match(text) for text in addresses)


def command() -> ModuleType:
    """The module that does it. Raises UsageError where its packages are not installed."""
    try:
        from rig.cluster import command as module
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", cure="pip install -r requirements-fleet.txt") from error
    return module
