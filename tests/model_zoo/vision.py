"""Models of images."""

import keras
from keras import layers, optimizers

from model_zoo.data import batches_of, classes, classifier, crossentropy, normal
from model_zoo.registry import model


@model
def cnn(random):
    parts = [
        layers.Conv2D(4, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(2),
        layers.Conv2D(6, 3, strides=2, activation="relu"),
        layers.Flatten(),
    ]
    return classifier(random, parts, (8, 8, 2), optimizers.SGD(0.05, momentum=0.9))


def _inverted_residual(x, width, stride):
    hidden = layers.Conv2D(2 * x.shape[-1], 1, use_bias=False)(x)
    hidden = layers.Activation("hard_swish")(layers.BatchNormalization()(hidden))
    hidden = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(hidden)
    hidden = layers.Activation("hard_swish")(layers.BatchNormalization()(hidden))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(hidden)
    gate = layers.Conv2D(2, 1, activation="relu")(gate)
    gate = layers.Conv2D(hidden.shape[-1], 1, activation="hard_sigmoid")(gate)
    hidden = layers.Multiply()([hidden, gate])
    hidden = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(hidden))
    return layers.Add()([x, hidden]) if stride == 1 and x.shape[-1] == width else hidden


@model
def mobilenet(random):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", activation="hard_swish")(inputs)
    x = _inverted_residual(_inverted_residual(x, 4, 1), 6, 2)
    made = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    made.compile(optimizers.RMSprop(0.002, momentum=0.9), crossentropy())
    return made, batches_of(normal(random, 8, 8, 3), classes(random, 4))


def _residual(x, width, stride):
    def norm(x):
        return layers.BatchNormalization(epsilon=1e-3)(x)

    hidden = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
    hidden = layers.ReLU()(norm(hidden))
    hidden = norm(layers.Conv2D(width, 3, padding="same", use_bias=False)(hidden))
    if stride > 1:
        x = norm(layers.Conv2D(width, 1, stride, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, hidden]))


@model
def resnet(random):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _residual(_residual(x, 4, 1), 8, 2)
    made = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    made.compile(optimizers.SGD(0.05, momentum=0.9, nesterov=True), crossentropy())
    return made, batches_of(normal(random, 8, 8, 3), classes(random, 4))


@model
def unet(random):
    inputs = keras.Input((8, 8, 1))
    first = layers.Conv2D(3, 3, padding="same", activation="relu")(inputs)
    low = layers.Conv2D(4, 3, padding="same", activation="relu")(layers.AveragePooling2D(2)(first))
    up = layers.Conv2DTranspose(3, 2, 2)(low)
    wide = layers.UpSampling2D(2)(layers.ZeroPadding2D(1)(layers.Cropping2D(1)(low)))
    outputs = layers.Conv2D(1, 1)(layers.Concatenate()([first, up, wide]))
    made = keras.Model(inputs, outputs)
    made.compile(optimizers.Adam(0.01), "mse")
    return made, batches_of(normal(random, 8, 8, 1), normal(random, 8, 8, 1))


@model
def normalizations(random):
    parts = [
        layers.SeparableConv2D(4, 3, activation="silu"),
        layers.GroupNormalization(2),
        layers.UnitNormalization(),
        layers.GlobalMaxPooling2D(),
        layers.RMSNormalization(),
        layers.Dense(6, activation="selu"),
    ]
    return classifier(random, parts, (6, 6, 2))


@model
def frozen_backbone(random):
    backbone = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.BatchNormalization()]
    )
    backbone.trainable = False
    return classifier(random, [backbone, layers.Flatten()], (6, 6, 2), optimizers.SGD(0.1))
