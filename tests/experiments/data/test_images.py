"""Image files that are damaged or foreign are refused by name."""

import numpy as np
import pandas as pd
import pytest
from image_folders import encode, random_images

from bayestda.errors import UserError
from bayestda.experiments.data.subsets import read_images


def _damages():
    good = [encode(image) for image in random_images((28, 28), 2, 1, seed=0)[0]]
    rgba = encode(np.zeros((28, 28, 4), np.uint8))
    structs = [{"bytes": image, "path": None} for image in good]
    cut = {"bytes": good[1][:300]}
    return {
        "truncated image": ({"image": [structs[0], cut], "label": [0, 1]}, "cannot be decoded"),
        "no image": ({"image": [structs[0], {"bytes": b"hello"}], "label": [0, 1]}, "decoded"),
        "null image": ({"image": [structs[0], {"bytes": None}], "label": [0, 1]}, "decoded"),
        "transparent": ({"image": [{"bytes": rgba}], "label": [0]}, "RGBA"),
        "unequal": ({"image": [{"bytes": encode(np.zeros((2, 2), np.uint8))}, *structs],
                     "label": [0, 1, 2]}, "unequal shape"),
        "no rows": ({"image": structs[:0], "label": np.zeros(0, int)}, "struct|decoded"),
        "no label": ({"image": structs}, "lacks the columns"),
        "bare bytes": ({"image": good, "label": [0, 1]}, "struct of bytes"),
        "text label": ({"image": structs, "label": ["a", "b"]}, "whole numbers"),
        "null label": ({"image": structs, "label": [0, None]}, "whole numbers"),
        "same index": ({"image": structs, "label": [0, 1], "index": [5, 5]}, "same index"),
    }  # fmt: skip


@pytest.mark.parametrize("damage", _damages())
def test_a_damaged_image_file_is_refused_by_name(tmp_path, damage):
    columns, reason = _damages()[damage]
    pd.DataFrame(columns).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UserError, match=reason) as error:
        read_images(tmp_path / "train.parquet")
    assert str(tmp_path / "train.parquet") in str(error.value)
