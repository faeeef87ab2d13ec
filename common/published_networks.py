"""The trained networks that keras.applications publishes: the addresses, sizes and digests of their files."""

import dataclasses
import os
import urllib.parse
import urllib.request
from pathlib import Path

from common import downloads, files
from common.errors import UserError

KERNELS = "weights_tf_dim_ordering_tf_kernels"
NO_TOP = f"{KERNELS}_notop.h5"


@dataclasses.dataclass(frozen=True)
class PublishedNetwork:
    """The file of a network's weights, trained on ImageNet, without the classification layer.

    address: relative to the publisher's. size: in bytes. md5: in hexadecimal, as listed in Keras. It detects a damaged
    or wrong file; https protects against tampering. Keras lists none for MobileNetV2, so its exact size is checked.
    """

    address: str
    size: int
    md5: str

    @property
    def path(self) -> Path:
        """Where Keras looks for the file on this machine."""
        return downloads.keras_cache("models") / Path(self.address).name

    @property
    def digest(self) -> str | int:
        """What the file is checked against: its MD5, or its size if no MD5 is known."""
        return self.md5 or self.size

    @property
    def description(self) -> str:
        """Name, size and MD5 of the file, by which a person can recognise it."""
        return f"{self.path.name} ({self.size:,} bytes{f', MD5 {self.md5}' if self.md5 else ''})"

    def found_at(self, source: str) -> str | Path:
        """Return the address or the file that `source` means: an address of the file or of a mirror, a file, a folder.

        A folder is searched for the file, whatever its name. Raises UserError if the folder lacks it.
        """
        scheme, mark, _ = source.lower().partition("://")
        if mark and scheme in ("https", "http") and urllib.parse.urlsplit(source.lower().replace("[", "")).netloc:
            is_file = source.partition("?")[0].lower().endswith(".h5")
            return source if is_file else f"{source.rstrip('/')}/{self.path.name}"
        if mark and scheme == "file":
            source = urllib.request.url2pathname(urllib.parse.urlsplit(source).path)
        elif mark:
            raise UserError(f"--from {source}: give an address that begins with https://, a file, or a folder")
        place = Path(os.path.expanduser(source))  # noqa: PTH111 - Path.expanduser raises for unknown users
        if not (files.exists(place) and place.is_dir()):
            return place
        found = downloads.find(place, self.digest, self.size) or next(place.rglob(self.path.name), None)
        if not found:
            raise UserError(f"--from {source}: no file in this folder is {self.description}, whatever its name")
        return found


# As in Keras 3.15. The sizes are those that Keras shows while it downloads the files.
NETWORKS = {
    "InceptionV3": PublishedNetwork(
        f"inception_v3/inception_v3_{NO_TOP}", 87_910_968, "bcbd6486424b2319ff4ef7d526e38f63"
    ),
    "VGG16": PublishedNetwork(f"vgg16/vgg16_{NO_TOP}", 58_889_256, "6d6bbae143d832006294945121d1f1fc"),
    "VGG19": PublishedNetwork(f"vgg19/vgg19_{NO_TOP}", 80_134_624, "253f8cb515780f3b799900260a226db6"),
    "ResNet50": PublishedNetwork(f"resnet/resnet50_{NO_TOP}", 94_765_736, "4d473c1dd8becc155b73f8504c6f6626"),
    "MobileNetV2": PublishedNetwork(f"mobilenet_v2/mobilenet_v2_{KERNELS}_1.0_224_no_top.h5", 9_406_464, ""),
    "Xception": PublishedNetwork(f"xception/xception_{NO_TOP}", 83_683_744, "b0042744bf5b25fce3cb969f33bebb97"),
}
