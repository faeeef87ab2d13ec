"""Random changes of images that keep their content, for discriminators that see few pictures.

Every function is differentiable in its images and takes its random numbers, uniform in [0, 1), as arguments.
"""

import tensorflow as tf


def mirror(images, chance):
    """Mirror left to right each image whose random number in `chance`, (batch, 1, 1, 1), is below a half.

    images: (batch, height, width, channels).
    """
    return tf.where(chance < 0.5, images[:, :, ::-1], images)


def augment(images, color, place):
    """Change the colours of images, shift the images and cut out a square: differentiable augmentation.

    Zhao et al. 2020 (arXiv:2006.10738), section 3.2, with their ranges. The discriminator sees only augmented images,
    real and generated alike: it cannot memorise the real ones, and the generator is not rewarded for augmented images.

    images: (batch, size, size, channels) in [-1, 1]. color: (batch, 3, 1, 1, 1), for brightness, saturation and
    contrast. place: (batch, 4), for the translation and the square, each vertical and horizontal.
    """
    images = change_color(images, brightness=color[:, 0], saturation=color[:, 1], contrast=color[:, 2])
    images = translate(images, place[:, :2])
    return cut_out(images, place[:, 2:])


def change_color(images, brightness, saturation, contrast):
    """Change the brightness of images by -0.5 to 0.5; scale their saturation by 0 to 2, their contrast by 0.5 to 1.5.

    images: (batch, height, width, channels). brightness, saturation, contrast: random numbers (batch, 1, 1, 1).
    """
    images = images + (brightness - 0.5)
    grey = tf.reduce_mean(images, axis=-1, keepdims=True)
    images = grey + 2.0 * saturation * (images - grey)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return mean + (0.5 + contrast) * (images - mean)


def translate(images, offset):
    """Shift images by up to an eighth of their size, vertically and horizontally; the border left behind becomes 0.

    images: (batch, size, size, channels). offset: (batch, 2), 0.5 for no shift.
    """
    size = images.shape[1]
    margin = size // 8
    first = tf.cast(offset * (2 * margin + 1), tf.int32)  # row and column of the padded image, 0 to 2 * margin
    kept = first[:, :, None] + tf.range(size)  # (batch, 2, size): the rows and the columns of the padded image
    images = tf.pad(images, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
    images = tf.gather(images, kept[:, 0], axis=1, batch_dims=1)
    return tf.gather(images, kept[:, 1], axis=2, batch_dims=1)


def cut_out(images, center):
    """Set a square, half as high and wide as the image, to 0 in each image; part of it may lie outside.

    images: (batch, size, size, channels). center: (batch, 2), row and column as fractions of the size.
    """
    size = images.shape[1]
    distance = tf.abs(tf.range(size, dtype=tf.float32) + 0.5 - center[..., None] * size)  # (batch, 2, size)
    inside = distance < size / 4
    square = inside[:, 0, :, None] & inside[:, 1, None, :]
    return tf.where(square[..., None], 0.0, images)
