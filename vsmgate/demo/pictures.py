"""Images as PNG and JPEG."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vsmgate.demo.scene import Array

__all__ = ["encode"]


def encode(
    image: Array, kind: str, quality: int = 100, metadata: Mapping[str, object] | None = None
) -> bytes:
    """The image (height, width, 4), 0 to 1, as ``png`` or ``jpg`` (without alpha).

    ``quality``: 0 to 100, JPEG only. ``metadata``: text to put into the file.
    """
    octets = (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    opaque = kind == "jpg" or bool((octets[..., 3] == 255).all())
    picture = Image.fromarray(np.ascontiguousarray(octets[..., :3]) if opaque else octets)
    words = dict(metadata or {})
    output = io.BytesIO()
    if kind == "jpg":
        comment = {"comment": json.dumps(words).encode()} if words else {}
        # Subsampled colours blur thin coloured branches.
        picture.save(output, "JPEG", quality=max(1, quality), subsampling=0, **comment)
    else:
        info = PngInfo()
        for key, value in words.items():
            info.add_itxt(key, value if isinstance(value, str) else json.dumps(value))
        picture.save(output, "PNG", compress_level=3, pnginfo=info)
    return output.getvalue()
