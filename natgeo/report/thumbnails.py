"""Small pictures of examples, as PNG data URIs that a page can carry in itself."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from natgeo import checks
from natgeo.errors import DataError

_LARGEST_SIDE = 512


def png_data_uri(image: Any, *, scale: int | None = None) -> str:
    """An image as `data:image/png;base64,...`, enlarged without smoothing.

    The same image gives the same bytes. Values are not stretched: 0 is black and 1 (or
    255) is white, so pictures can be compared.

    Args:
        image: [H, W] or [H, W, 3], floats from 0 to 1 or uint8.
        scale: how many pixels wide each pixel becomes; by default as many as keep the
            longer side within 64 pixels.

    Raises:
        ArgumentError: if `scale` is not a whole number of at least 1.
        DataError: if the image has another shape, type or range, or gets too large.

    Examples:
        >>> png_data_uri(np.zeros((8, 8)))[:32]
        'data:image/png;base64,iVBORw0KGg'
    """
    pixels = _as_bytes(np.asarray(image))
    longest = max(pixels.shape[:2])
    if scale is None:
        scale = max(1, 64 // longest)
    scale = checks.count("scale", scale)
    if scale * longest > _LARGEST_SIDE:
        raise DataError(
            f"image has shape {pixels.shape} and scale is {scale}: a thumbnail is at "
            f"most {_LARGEST_SIDE} pixels wide and high. Make it smaller first."
        )
    enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(enlarged).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _as_bytes(image: np.ndarray) -> np.ndarray:
    """The image as uint8, refused rather than guessed at if it is anything else."""
    grey = image.ndim == 2
    if not (grey or (image.ndim == 3 and image.shape[2] == 3)) or image.size == 0:
        raise DataError(
            f"image has shape {image.shape}: expected [height, width] or "
            f"[height, width, 3]."
        )
    if image.dtype == np.uint8:
        return image
    checks.floats("image", image)
    values = np.asarray(image, np.float64)
    checks.finite("image", values)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise DataError(
            f"image has values from {low:.3g} to {high:.3g}: expected 0 to 1. Divide "
            f"by the largest possible value, or undo the normalisation."
        )
    return np.round(255 * values).astype(np.uint8)
