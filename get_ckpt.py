"""Fetch the network that deep_dream.py dreams with: once, for use without a connection ever after.

The weights are those that keras.applications publishes, trained on ImageNet, without the last layer, which names what
is in a picture. They go to Keras's own cache under Keras's own names, so that other Keras programs find them, too.
A download that was interrupted goes on where it stopped; nothing takes its place before it is whole and checked.

    python get_ckpt.py                InceptionV3, 88 MB
    python get_ckpt.py --list         the networks there are, and which of them are here
    python get_ckpt.py --from PATH    from a file or folder that was carried to a machine without a connection
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common import cli, downloads, files
from common.published import NETWORKS, Network

PUBLISHED = "https://storage.googleapis.com/tensorflow/keras-applications"
DOWNLOAD_SECONDS = 3600.0  # 95 MB over a slow line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of get_ckpt.py."""

    model: Literal[tuple(NETWORKS)] = "InceptionV3"
    """The network to fetch."""
    list: bool = False
    """Show the networks, how large they are and which of them are here, instead of fetching one."""
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Take the file from elsewhere: a file, a folder to search for it, the address of a mirror's file or folder."""
    force: bool = False
    """Replace a file that is here, which otherwise is kept if it is right and refused if it is not."""


def show_networks() -> None:
    """Print a line for each network: its name, its size, whether it is here and right, and its file's name."""
    print(f"{'model':<12} {'MB':>5}  file in {downloads.keras_cache('models')}")
    for name, network in NETWORKS.items():
        here, part = "not here", files.partial(network.path)
        if files.exists(network.path):
            wrong = downloads.fault(network.path, network.digest)
            here = f"not the published file: {wrong}" if wrong else f"here, {'MD5' if network.md5 else 'size'} right"
        elif files.exists(part):
            here = f"{part.stat().st_size / 1e6:.1f} MB of it here"
        print(f"{name:<12} {network.size / 1e6:>5.1f}  {network.path.name} ({here})")


def find(source: str, network: Network) -> str | Path:
    """Return the address or the file that `--from` means; without it, where the file is published."""
    if not source:
        return f"{PUBLISHED}/{network.address}"
    if source.startswith(("https://", "http://")):
        is_file = source.partition("?")[0].endswith(".h5")
        return source if is_file else f"{source.rstrip('/')}/{network.path.name}"
    place = Path(os.path.expanduser(source))  # noqa: PTH111 - Path.expanduser raises for unknown users
    if files.exists(place) and place.is_dir():
        return next(place.rglob(network.path.name), place / network.path.name)
    return place


def obtain(network: Network, source: str, force: bool) -> None:
    """Put a network's file in its place, unless it is there."""
    path = network.path
    if files.exists(path) and not force:
        if wrong := downloads.fault(path, network.digest):
            raise cli.UserError(f"{path} is not the published file ({wrong}); --force replaces it")
        print("it is here already")
        return
    place = find(source, network)
    if isinstance(place, Path):
        downloads.copy(place, path, network.digest)
        return
    try:
        downloads.fetch(place, path, network.digest, DOWNLOAD_SECONDS)
    except KeyboardInterrupt:
        if files.partial(path).exists():
            print("what has come is kept: the same command goes on from there", file=sys.stderr)
        raise


@cli.one_line_errors
def main(argv=None):
    """Run the command line `argv`, by default the process's own."""
    config = cli.parse(Config, argv, __doc__)
    if config.list:
        show_networks()
        return
    obtain(NETWORKS[config.model], config.from_, config.force)
    print(f"{config.model} lies in {NETWORKS[config.model].path}")
    chosen = "" if config.model == "InceptionV3" else f" --model {config.model}"
    print(f"next: python deep_dream.py --image_path x.jpg{chosen}")


if __name__ == "__main__":
    main()
