"""Affine and perspective transforms of a batch of images: Keras's values, one graph for any batch."""

import keras
import pytest
import torch
from keras import layers
from keras.src.backend.torch.ops import image as torch_image

from keras_triton.journal import stats
from keras_triton.src.ops import image

FORMATS = ["channels_last", "channels_first"]
INTERPOLATIONS = ["nearest", "bilinear"]


def pictures(data_format, dtype=torch.float64):
    torch.manual_seed(0)
    images = (255 * torch.rand(3, 6, 7, 2)).to(dtype)
    return images if data_format == "channels_last" else images.permute(0, 3, 1, 2)


def affine():
    about_1 = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0], dtype=torch.float64)
    # Far enough for some pixels to come from outside.
    return about_1 + torch.randn(3, 8) * torch.tensor([0.3, 0.3, 4, 0.3, 0.3, 4, 0, 0])


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "wrap", "mirror", "reflect"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_affine_transform_is_keras_own(data_format, interpolation, fill_mode, dtype):
    images, transform = pictures(data_format, dtype), affine()
    options = (interpolation, fill_mode, 3.5, data_format)
    found = image.affine_transform(images, transform, *options)
    # Keras's function writes to the transform.
    torch.testing.assert_close(
        found, torch_image.affine_transform(images, transform.clone(), *options)
    )


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_perspective_transform_is_keras_own(data_format, interpolation):
    images = pictures(data_format)
    corners = torch.tensor([[0.0, 0], [6, 0], [0, 5], [6, 5]], dtype=torch.float64).repeat(3, 1, 1)
    arguments = (images, corners, corners + torch.randn(3, 4, 2), interpolation, 3.5, data_format)
    torch.testing.assert_close(
        image.perspective_transform(*arguments), torch_image.perspective_transform(*arguments)
    )


@pytest.mark.parametrize("shape", [(8,), (1, 8)])
def test_one_image_is_moved_as_by_keras(shape):
    picture, transform = pictures("channels_last")[0], affine()[0].reshape(shape)
    torch.testing.assert_close(
        image.affine_transform(picture, transform),
        torch_image.affine_transform(picture, transform.clone()),
    )


def test_what_does_not_fit_is_keras_to_refuse():
    images = pictures("channels_last")
    with pytest.raises(ValueError, match="Invalid value for argument `fill_mode`"):
        image.affine_transform(images, affine(), fill_mode="other")
    with pytest.raises(ValueError, match="Invalid start_points shape"):
        image.perspective_transform(images, torch.zeros(3, 5, 2), torch.zeros(3, 5, 2))


@pytest.mark.parametrize(
    "layer", [layers.RandomRotation(0.2), layers.RandomPerspective(1.0)], ids=lambda x: x.name
)
def test_launches_do_not_grow_with_the_batch(layer):
    launches = []
    for count in (2, 6):
        # A model each, so that neither is compiled for batches of any size.
        model = keras.Sequential([keras.Input((6, 7, 2)), layer, layers.Flatten(), layers.Dense(1)])
        model.compile("sgd", "mse")
        model.train_on_batch(torch.rand(count, 6, 7, 2), torch.rand(count, 1))
        launches.append(len(stats().reports[-1].rows))
    assert launches[0] == launches[1]
