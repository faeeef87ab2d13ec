"""The features of any part of a network, at any size, equal those of the network itself."""

import keras
import numpy as np
import pytest
import small_network
import tensorflow as tf
from keras import layers

from blocks.feature_extraction import FeatureExtractor, any_size_model, layer_shapes
from common.errors import UserError


@pytest.fixture(scope="module")
def model():
    return small_network.build()


def random_images(low=-1, high=1):
    return tf.random.stateless_uniform((2, 21, 34, 3), (0, 0), low, high)


def assert_equal_features(model, names, images):
    expected = keras.Model(model.inputs, [model.get_layer(name).output for name in names])(images)
    for one, other in zip(*map(keras.tree.flatten, (any_size_model(model, names)(images), expected)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_folded_normalisation_changes_only_the_rounding(model):
    names = ["soft_edges", "mixed0", "mixed1"]
    assert_equal_features(model, names, random_images())
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in any_size_model(model, names).layers)


@pytest.mark.parametrize("names", [["normalized"], ["edges", "mixed0"]])
def test_a_normalisation_that_is_chosen_or_whose_input_is_chosen_is_not_folded(model, names):
    assert_equal_features(model, names, random_images())


@pytest.mark.parametrize("other_use", ["an operator", "a second call"])
def test_a_convolution_whose_output_is_used_elsewhere_is_not_folded(other_use):
    images, convolution = keras.Input((None, None, 3)), layers.Conv2D(3, 3, padding="same", name="convolution")
    x = convolution(images)
    y = layers.BatchNormalization(name="normalization")(x)
    y = x + y if other_use == "an operator" else y + convolution(layers.Activation("relu")(y))
    model = keras.Model(images, layers.Activation("relu", name="sum")(y))
    model.get_layer("normalization").moving_mean.assign([0.5, -0.5, 1.0])
    assert_equal_features(model, ["sum"], random_images())


def test_an_adapted_normalisation_layer_keeps_its_statistics():
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(np.random.default_rng(0).uniform(0, 255, (50, 8, 8, 3)))
    images = keras.Input((None, None, 3))
    inner = keras.Sequential([images, normalization, layers.Conv2D(4, 3, padding="same")], name="inner")
    model = keras.Model(images, layers.Activation("relu", name="features")(inner(images)))
    assert_equal_features(model, ["features"], random_images(0, 255))


def test_the_layers_of_a_model_within_the_model_are_seen():
    images = keras.Input((48, 48, 3))
    base = keras.Model(images, layers.Conv2D(4, 3, strides=2, name="inner")(images), name="base")
    inputs = keras.Input((48, 48, 3))
    x = layers.GlobalAveragePooling2D()(base(layers.Rescaling(0.5)(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert layer_shapes(model) == {
        "rescaling": (None, 48, 48, 3),
        "base": (None, 23, 23, 4),
        "base/inner": (None, 23, 23, 4),
    }
    images = random_images()  # of a size that neither model accepts
    for features in FeatureExtractor(model, ["base", "base/inner"])(images):
        np.testing.assert_allclose(features, base.get_layer("inner")(0.5 * images), atol=1e-5)


def test_models_within_models_at_any_depth_and_pooled():
    network = small_network.build()  # pools and classifies at its end
    middle = keras.Sequential([keras.Input((40, 40, 3)), layers.Rescaling(2.0, name="edges"), network], name="middle")
    outer = keras.Sequential([keras.Input((40, 40, 3)), layers.Rescaling(0.5, name="edges"), middle, layers.Dense(2)])
    shapes = layer_shapes(outer)
    inside = f"middle/{network.name}"
    assert list(shapes)[:3] == ["edges", "middle/edges", f"{inside}/edges"]
    assert list(shapes)[-1] == f"{inside}/mixed1"
    names = ["middle/edges", f"{inside}/edges", f"{inside}/mixed1"]
    first, second, third = FeatureExtractor(outer, names)(random_images())
    np.testing.assert_allclose(first, random_images(), atol=1e-6)
    for features, name in ((second, "edges"), (third, "mixed1")):
        expected = keras.Model(network.inputs, network.get_layer(name).output)(random_images())
        np.testing.assert_allclose(features, expected, atol=1e-5)
    assert [it.name for it in any_size_model(outer, names[1:]).layers].count("edges") == 1  # names stay unique


def test_a_branch_that_two_inputs_share():
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="convolution")(image)
    branch = keras.Model(image, layers.BatchNormalization(name="normalization")(x), name="branch")
    branch.get_layer("normalization").moving_mean.assign([0.5, -0.5, 1.0, 2.0])
    inputs = keras.Input((None, None, 3))
    mirrored = layers.Rescaling(-1.0)(inputs)
    model = keras.Model(inputs, layers.Subtract(name="difference")([branch(inputs), branch(mirrored)]))
    names = ["branch/normalization", "branch:2/normalization", "difference"]
    assert set(names) < set(layer_shapes(model))
    images = random_images()
    expected = [branch(images), branch(-images), branch(images) - branch(-images)]
    for features, wanted in zip(FeatureExtractor(model, names)(images), expected, strict=True):
        np.testing.assert_allclose(features, wanted, atol=1e-5)
    assert len(any_size_model(model, names).get_layer("convolution").weights) == 1  # shared, too, and not folded


def test_an_inner_model_with_two_inputs_and_outputs():
    ones = [keras.Input((None, None, 3)) for _ in range(2)]
    inner = keras.Model(ones, [layers.Add(name="sum")(ones), layers.Subtract(name="difference")(ones)], name="inner")
    inputs = keras.Input((None, None, 3))
    first, second = inner([inputs, layers.Rescaling(3.0, name="tripled")(inputs)])
    model = keras.Model(inputs, layers.Multiply(name="product")([first, second]))
    assert list(layer_shapes(model)) == ["tripled", "inner/sum", "inner/difference", "product"]
    (features,) = FeatureExtractor(model, ["product"])(random_images())
    np.testing.assert_allclose(features, 4.0 * -2.0 * random_images() ** 2, atol=1e-5)


def test_a_layer_that_works_at_one_size_only():
    inputs = keras.Input((8, 8, 3))
    fixed = layers.Reshape((12, 16, 1), name="fixed")(layers.Flatten()(inputs))
    with pytest.raises(UserError, match="--layers fixed: the network takes pictures of one size only"):
        any_size_model(keras.Model(inputs, fixed), ["fixed"])


def test_images_are_prepared_and_activations_are_float32(model):
    keras.config.set_dtype_policy("mixed_bfloat16")
    features = FeatureExtractor(model, ["edges", "mixed1"], lambda images: images + 1.0)
    first, second = features(-tf.ones((1, 20, 30, 3)))
    assert (first.dtype, second.dtype) == (tf.float32, tf.float32)
    assert (first.shape, second.shape) == ((1, 20, 30, 6), (1, 8, 13, 5))
    np.testing.assert_array_equal(first, np.zeros_like(first))  # a convolution of zeros, without bias


def test_sizes_that_leave_a_layer_without_output_are_not_accepted(model):
    accepts = FeatureExtractor(model, ["mixed1"]).accepts
    assert accepts(6, 6)
    assert not accepts(5, 6)
    assert not accepts(500, 1)
