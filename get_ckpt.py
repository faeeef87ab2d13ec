"""Fetch a trained network for deep_dream.py, which then needs no connection.

The weights are those that keras.applications publishes, trained on ImageNet, without the classification layer. They go
to Keras's own cache under Keras's own names, so that other Keras programs find them, too. An interrupted download
resumes where it stopped; a file appears only when it is complete and checked.

    python get_ckpt.py                InceptionV3, 88 MB
    python get_ckpt.py --list         the networks to choose from, and which have been fetched
    python get_ckpt.py --from PATH    from a file or folder brought to a machine without a connection
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import common.environment  # noqa: F401 - first: it checks that the packages below are installed

import tyro

from common import cli, downloads, files, flags
from common.errors import UserError
from common.published_networks import NETWORKS, PublishedNetwork

PUBLISHED = "https://storage.googleapis.com/tensorflow/keras-applications"
DOWNLOAD_SECONDS = 3600.0  # enough for 95 MB over a slow line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of get_ckpt.py."""

    model: Literal[tuple(NETWORKS)] = "InceptionV3"
    """The network to fetch."""
    list: bool = False
    """List the networks, their sizes, and which have been fetched, instead of fetching one."""
    from_: Annotated[str, flags.NotEmpty, tyro.conf.arg(name="from")] = ""
    """Where to get it instead: a file, a folder to search, or the address of a mirror's file or folder."""
    force: bool = False
    """Replace an existing file; without this flag, a correct one is kept and a wrong one is an error."""


def list_networks() -> None:
    """Print a line for each network: its name, its size, its file's name, and whether the file is here and correct."""
    print(f"{'model':<12} {'MB':>5}  file in {downloads.keras_cache('models')}")
    for name, network in NETWORKS.items():
        state, part = "not fetched", files.partial(network.path)
        if files.exists(network.path):
            fault = downloads.fault(network.path, network.digest)
            checked = "MD5" if network.md5 else "size"
            state = f"not the published file: {fault}" if fault else f"fetched, {checked} correct"
        elif files.exists(part):
            state = f"{part.stat().st_size / 1e6:.1f} MB fetched"
        print(f"{name:<12} {network.size / 1e6:>5.1f}  {network.path.name} ({state})")


def obtain(network: PublishedNetwork, source: str, force: bool) -> None:
    """Put a network's file into Keras's cache, unless it is there.

    Raises UserError if a wrong file is there and is not to be replaced, or if the file cannot be obtained.
    """
    path = network.path
    if files.exists(path) and not force:
        if fault := downloads.fault(path, network.digest):
            raise UserError(f"{path} is not the published file ({fault}); replace it with --force")
        print("already fetched")
        return
    place = network.found_at(source) if source else f"{PUBLISHED}/{network.address}"
    if isinstance(place, Path):
        downloads.copy(place, path, network.digest)
        return
    try:
        downloads.fetch(place, path, network.digest, DOWNLOAD_SECONDS, network.size)
    except UserError as error:
        raise UserError(
            f"{error}; fetch {network.description} on another machine and put it into {path.parent}, or name it with "
            "--from; until then, deep_dream.py dreams with its bundled network"
        ) from None
    except KeyboardInterrupt:
        if files.partial(path).exists():
            print("the part received so far is kept; run the same command again to resume", file=sys.stderr)
        raise


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = cli.parse(Config, argv, __doc__)
    if config.list:
        list_networks()
        return
    obtain(NETWORKS[config.model], config.from_, config.force)
    print(f"{config.model} is in {NETWORKS[config.model].path}")
    chosen = "" if config.model == "InceptionV3" else f" --model {config.model}"
    print(f"next: python deep_dream.py --image_path x.jpg{chosen}")


if __name__ == "__main__":
    main()
