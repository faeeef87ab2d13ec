"""Adversarial losses later than the first GAN's: functions of each image's logit, which is high for real images."""

import tensorflow as tf

# What the generator minimises, given the logits (batch,) of its images.
GENERATOR_LOSSES = {
    "least_squares": lambda fake: 0.5 * (fake - 1.0) ** 2,  # Mao et al. 2017 (arXiv:1611.04076), equation 9
    "hinge": lambda fake: -fake,  # Lim and Ye 2017 (arXiv:1705.02894), section 3
    "wasserstein_gp": lambda fake: -fake,  # Gulrajani et al. 2017 (arXiv:1704.00028), algorithm 1
}

# What the discriminator minimises, given the logits (batch,) of real and of generated images; sources as above.
# smoothing: one-sided label smoothing (Salimans et al. 2016, arXiv:1606.03498, section 3.4): the target of real images
# is 1 minus this. The hinge and Wasserstein losses have no targets and ignore it.
DISCRIMINATOR_LOSSES = {
    "least_squares": lambda real, fake, smoothing: 0.5 * (real - 1.0 + smoothing) ** 2 + 0.5 * fake**2,
    "hinge": lambda real, fake, smoothing: tf.nn.relu(1.0 - real) + tf.nn.relu(1.0 + fake),
    "wasserstein_gp": lambda real, fake, smoothing: fake - real,
}
