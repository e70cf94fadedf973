"""Trains a small convolutional network on 1,797 scanned handwritten digits: plain Keras, any
backend.
"""

import os
import tempfile

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

keras.utils.set_random_seed(7)

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., None]
x_train, x_test, y_train, y_test = train_test_split(
    images, digits.target.astype("int32"), test_size=0.2, random_state=7, stratify=digits.target
)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Dropout(0.25),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(10),
    ]
)
model.compile(
    optimizer=keras.optimizers.Adam(1e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)

epochs = int(os.environ.get("EPOCHS", "15"))
model.fit(x_train, y_train, batch_size=64, epochs=epochs, validation_split=0.1)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"backend {keras.backend.backend()}: test loss {loss:.4f}, test accuracy {accuracy:.2%}")

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.keras")
    model.save(path)
    reloaded = keras.models.load_model(path)
before, after = model.predict(x_test, verbose=0), reloaded.predict(x_test, verbose=0)
print(f"saved and reloaded: predictions {'equal' if np.array_equal(before, after) else 'DIFFER'}")
