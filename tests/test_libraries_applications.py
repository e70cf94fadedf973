"""Models of `keras.applications` predict as on torch; `compare_with_torch.py applications` runs all."""

import applications
import pytest
from compare_with_torch import compare, failure

SMALL = ("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "MobileNetV3Small", "NASNetMobile")


@pytest.fixture(scope="module")
def rows():
    return compare("applications", list(SMALL))


def test_there_are_forty():
    assert len(applications.NAMES) == 40


@pytest.mark.parametrize("name", SMALL)
def test_predicts_as_torch(rows, name):
    assert failure(rows[name], applications.TOLERANCE) == ""
    assert rows[name]["fallbacks"] == {}
