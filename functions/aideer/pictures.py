"""Pictures that people send, and the small one that is made of each.

What always holds: what comes out is a JPEG of SIDE × SIDE that carries pixels alone: no metadata, no colour profile, nothing of the
file. What goes in is read by a decoder of this list or by none (Pillow would hand PostScript to a program that runs it), its
size is judged by its header before anything is decoded, and whatever a decoder stumbles over is the sender's error.
"""

import contextlib
import io
import warnings
from typing import TYPE_CHECKING

from aideer.errors import TooLarge, Unprocessable

if TYPE_CHECKING:  # Pillow is slow to import, and not in every function's layers
    from PIL.Image import Image

SIDE = 128
MOST_BYTES = 4 * 1024 * 1024
MOST_PIXELS = 25_000_000
"""Decoded, the worst of that many take some 500 MB: docs/decisions.md, "Pictures"."""
_MOST_SCANS = 60
"""Of a JPEG. Progressive ones have about ten; each goes over the whole picture, and can be made of almost no bytes."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")
_ORIENTATION = 0x0112
_QUALITY = 88


def square(file: bytes) -> bytes:
    """The middle of a picture, as large as it is wide or high, as a JPEG of SIDE × SIDE: upright, over white, in sRGB.

    Of an animated one it is the first frame. Raises TooLarge (more than MOST_BYTES) and Unprocessable: unsupported_picture,
    broken_picture, too_many_pixels.
    """
    if len(file) > MOST_BYTES:
        raise TooLarge("file_too_large", f"A picture may have {MOST_BYTES} bytes.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are odd: they are refused, or read all the same
        picture = _decoded(file)
        small = _upright(_in_srgb(_small(picture), picture), picture)
    written = io.BytesIO()
    small.save(written, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return written.getvalue()


def _decoded(file: bytes) -> "Image":
    # Each imported by name: Pillow would otherwise look through all its plugins.
    from PIL import AvifImagePlugin, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

    if file.startswith(b"\xff\xd8\xff") and file.count(b"\xff\xda") > _MOST_SCANS:
        raise Unprocessable("broken_picture", "This picture is in too many parts.")
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # it refuses from twice this on, and warns from this on
    try:
        picture = Image.open(io.BytesIO(file), formats=_FORMATS)
        # A JPEG is decoded at the eighth, quarter or half that is still large enough.
        picture.draft(None, (2 * SIDE, 2 * SIDE))
        picture.load()
    except UnidentifiedImageError:
        raise Unprocessable("unsupported_picture", f"A picture is one of {', '.join(_FORMATS)}.") from None
    except Image.DecompressionBombError:
        raise Unprocessable("too_many_pixels", f"A picture may have {MOST_PIXELS} pixels.") from None
    except Exception:  # decoders of broken files raise whatever they come upon
        raise Unprocessable("broken_picture", "This picture cannot be read.") from None
    return picture


def _small(picture: "Image") -> "Image":
    """The middle of it over white, in its own colours: L, RGB, CMYK, YCbCr or LAB."""
    from PIL import Image

    mode = picture.mode
    if mode.startswith("I;16"):
        picture = picture.convert("I")
    elif picture.has_transparency_data:
        picture = picture.convert("RGBA").convert("RGBa")  # so that what cannot be seen does not shine through
    elif mode in ("1", "P"):  # of which no mean can be taken
        picture = picture.convert("L" if mode == "1" else "RGB")
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box, reducing_gap=2.0)
    if small.mode in ("I", "F"):
        return _in_grey(small, 65535 if mode.startswith("I;16") else None)
    if small.mode == "RGBa":
        small = small.convert("RGBA")
        over_white = Image.new("RGB", small.size, "white")
        over_white.paste(small, mask=small)
        return over_white
    return small


def _in_grey(small: "Image", white: float | None) -> "Image":
    """Numbers as shades: up to `white`, or, where nothing says what is white, from the least to the greatest."""
    least, greatest = (0.0, white) if white else small.convert("F").getextrema()
    scale = 255 / (greatest - least) if greatest > least else 0.0  # type: ignore[operator]
    return small.convert("F").point(lambda value: value * scale - least * scale).convert("L")  # type: ignore[operator]


def _in_srgb(small: "Image", picture: "Image") -> "Image":
    from PIL import Image, ImageCms

    profile = picture.info.get("icc_profile")
    converted: Image.Image | None = None
    if small.mode == "LAB":
        to_rgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(small, to_rgb)
    elif profile and small.mode in ("L", "RGB", "CMYK"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):  # not one of these colours
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(small, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    # Pasted on a new one: Pillow would write out a comment that came with the file.
    bare = Image.new("RGB", small.size)
    bare.paste((converted or small).convert("RGB"))
    return bare


def _upright(small: "Image", picture: "Image") -> "Image":
    """Turned as the file says (EXIF 2.3, 4.6.4 A): done last, because the middle of a picture is the middle however it lies."""
    from PIL.Image import Transpose

    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # as in _decoded
        return small
    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation if isinstance(orientation, int) else 1)
    return small if turn is None else small.transpose(turn)
