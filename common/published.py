"""The networks that keras.applications publishes, as files: their addresses, sizes and digests."""

import dataclasses
from pathlib import Path

from common import downloads

KERNELS = "weights_tf_dim_ordering_tf_kernels"
NO_TOP = f"{KERNELS}_notop.h5"


@dataclasses.dataclass(frozen=True)
class Network:
    """The file of a network's weights: its address below the publisher's, its size in bytes, its MD5 in hexadecimal.

    MD5 is what Keras has: good against errors of transmission and the wrong file; against somebody who means ill there
    is https. Keras has none for MobileNetV2; its exact size must do.
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
        """What the file is checked by."""
        return self.md5 or self.size


# As in Keras 3.15. The sizes are those that it shows while it downloads the files.
NETWORKS = {
    "InceptionV3": Network(f"inception_v3/inception_v3_{NO_TOP}", 87_910_968, "bcbd6486424b2319ff4ef7d526e38f63"),
    "VGG16": Network(f"vgg16/vgg16_{NO_TOP}", 58_889_256, "6d6bbae143d832006294945121d1f1fc"),
    "VGG19": Network(f"vgg19/vgg19_{NO_TOP}", 80_134_624, "253f8cb515780f3b799900260a226db6"),
    "ResNet50": Network(f"resnet/resnet50_{NO_TOP}", 94_765_736, "4d473c1dd8becc155b73f8504c6f6626"),
    "MobileNetV2": Network(f"mobilenet_v2/mobilenet_v2_{KERNELS}_1.0_224_no_top.h5", 9_406_464, ""),
    "Xception": Network(f"xception/xception_{NO_TOP}", 83_683_744, "b0042744bf5b25fce3cb969f33bebb97"),
}
