"""Turn images into pixels of a page, and many of them into one."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from bayestda.errors import UserError

TILES_IN_ROW = 30
QUALITY = 92  # of colour photographs, which are shown compressed with loss
LARGEST_SIDE = 112  # pixels; the explorer shows no image larger
MOST_PIXELS = 16_383  # of a side, which WebP cannot exceed


def as_pixels(images: np.ndarray, what: str) -> np.ndarray:
    """Return images as uint8 [N H W] or [N H W 3].

    Args:
        images: Grey levels [N H W], or with 1 or 3 channels [N H W C] or [N C H W]. Whole numbers
            count from 0 to 255, floats from 0 to 1.
        what: Name of the argument in messages.

    Raises:
        UserError: There are other channels or other numbers.
    """
    return _as_bytes(_channels_last(images, what), what)


def _channels_last(images: np.ndarray, what: str) -> np.ndarray:
    if images.ndim == 3:
        return images
    if images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.shape[-1] not in (1, 3):
        raise UserError(
            f"{what} of shape {images.shape} are no images with 1 or 3 channels: choose three "
            "channels, or give None to show names and labels alone"
        )
    return images[..., 0] if images.shape[-1] == 1 else images


def _as_bytes(images: np.ndarray, what: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    is_float = images.dtype.kind == "f"
    low, high, top = images.min(), images.max(), 1 if is_float else 255
    if not (low >= 0 and high <= top):
        raise UserError(
            f"{what} hold numbers from {low:.4g} to {high:.4g}, but images of type {images.dtype} "
            f"count from 0 to {top}: undo their normalisation, or give "
            "(x - x.min()) / (x.max() - x.min())"
        )
    return (images * 255).round().astype(np.uint8) if is_float else images.astype(np.uint8)


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return images with no side longer than the explorer shows."""
    longest = max(pixels.shape[1:3])
    if longest <= LARGEST_SIDE:
        return pixels
    height, width = (max(1, round(side * LARGEST_SIDE / longest)) for side in pixels.shape[1:3])
    resized = [Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
               for image in pixels]  # fmt: skip
    return np.stack([np.asarray(image) for image in resized])


def sprite(pixels: np.ndarray) -> dict[str, Any]:
    """Return all images as tiles of one.

    Args:
        pixels: Images, uint8 [N H W] or [N H W 3].

    Returns:
        ``sprite``, a ``data:`` address; ``across``, the tiles in a row; ``size``, their [H W].

    Raises:
        UserError: The images are too many for one.
    """
    count, height, width = pixels.shape[:3]
    across = max(TILES_IN_ROW, -(-count * height // MOST_PIXELS) + 1)
    rows = -(-count // across)
    if max(across * width, rows * height) > MOST_PIXELS:
        raise UserError(f"{count} images of {height} x {width} pixels are too many for one page: "
                        "give a smaller max_mb")  # fmt: skip
    padded = np.zeros((rows * across, *pixels.shape[1:]), np.uint8)
    padded[:count] = pixels
    tiles = padded.reshape(rows, across, *pixels.shape[1:]).swapaxes(1, 2)
    whole = tiles.reshape(rows * height, across * width, *pixels.shape[3:])
    return {"sprite": _address(whole), "across": across, "size": [height, width]}


def _address(image: np.ndarray) -> str:
    kind, buffer = "png" if image.ndim == 2 else "webp", io.BytesIO()
    Image.fromarray(image).save(buffer, kind, quality=QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
