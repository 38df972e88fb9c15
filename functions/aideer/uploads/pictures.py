"""Pictures that users upload: decode a file, and draw its pixels anew as a JPEG.

Invariants: the result has pixels only: no metadata, no colour profile, no other part of the file. Only the named decoders read an
upload, because Pillow would pass PostScript to a program that executes it. The size in the header is checked before any decoding.
Every error of a decoder counts as an error of the sender.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aideer.core.errors import Detail, Unprocessable

if TYPE_CHECKING:  # Pillow is slow to import, and not in every function's layers
    from PIL.Image import Image

MOST_PIXELS = 25_000_000
"""The worst image with that many pixels takes some 500 MB when it is decoded: docs/decisions/avatar-image-size-limits.md."""
_MOST_SCANS = 60
"""The most scans of a JPEG. A progressive JPEG has about ten. A scan of almost no bytes can cover the whole image."""
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC, _COLOUR_MAP, _EXTRA_SAMPLES = 258, 262, 320, 338
"""Tags of TIFF 6.0."""
_PNG_DEPTH = 24
"""The position of a PNG's bits per sample: in IHDR, the first chunk."""
_QUALITY = 88


class Crop(NamedTuple):
    """The part of a picture to show (left, top, right, bottom), and its size in the result (width, height)."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]


class Redrawn(NamedTuple):
    """A JPEG that was made of a picture."""

    jpeg: bytes
    width: int
    height: int


def redraw(file: bytes, formats: Sequence[str], find_crop: Callable[[int, int], Crop]) -> Redrawn:
    """Return a part of a picture as a JPEG: upright, over white, in sRGB. An animated image gives its first frame.

    `find_crop` chooses the part by the picture's width and height, as they are stored. Raises Unprocessable: unsupported_picture,
    broken_picture, too_many_pixels, and what `find_crop` raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd files: each is refused, or read anyway
        picture, pixels = _decode(file, formats, find_crop)
        crop = find_crop(*pixels.size)
        drawn = _upright(_in_srgb(_small(picture, pixels, crop), picture), picture)
    written = io.BytesIO()
    drawn.save(written, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return Redrawn(written.getvalue(), drawn.width, drawn.height)


def _decode(file: bytes, formats: Sequence[str], find_crop: Callable[[int, int], Crop]) -> tuple["Image", "Image"]:
    """Return the file as Pillow reads it, and its pixels after _repair."""
    # Import the plugins by name. Otherwise Pillow would search all of them.
    from PIL import AvifImagePlugin, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

    if file.startswith(b"\xff\xd8\xff") and file.count(b"\xff\xda") > _MOST_SCANS:
        raise Unprocessable("broken_picture", "This image has too many parts.")
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow warns above this, and refuses above twice this
    try:
        picture = Image.open(io.BytesIO(file), formats=tuple(formats))
        # Decode a JPEG at an eighth, a quarter or a half of its size, as long as that is large enough.
        width, height = find_crop(*picture.size).size
        picture.draft(None, (2 * width, 2 * height))
        picture.load()
        return picture, _repair(picture, file)
    except Unprocessable:
        raise
    except UnidentifiedImageError:
        raise Unprocessable(
            "unsupported_picture", Detail("An image must be one of {formats}.", formats=list(formats))
        ) from None
    except Image.DecompressionBombError:
        raise Unprocessable(
            "too_many_pixels", Detail("An image can have at most {most} pixels.", most=MOST_PIXELS)
        ) from None
    except Exception:  # a decoder may raise any exception on a broken file
        raise Unprocessable("broken_picture", "This image cannot be read.") from None


def _repair(picture: "Image", file: bytes) -> "Image":
    """Return the pixels, corrected if Pillow reads them differently from the format's definition or from other programs."""
    from PIL import ImageChops, TiffImagePlugin

    transparent = picture.info.get("transparency")
    if picture.format == "PNG" and transparent is not None:
        # The transparent colour has the file's depth (PNG 11.3.2.1), but Pillow's pixels have 8 bits.
        depth = file[_PNG_DEPTH]
        if picture.mode == "L" and depth in (2, 4):
            picture.info["transparency"] = transparent * 255 // (2**depth - 1)
        elif picture.mode == "RGB" and depth == 16:
            picture.info["transparency"] = tuple(value >> 8 for value in transparent)
    if picture.mode == "RGBA" and _has_unmeant_alpha(picture) and picture.getchannel("A").getextrema() == (0, 0):
        return picture.convert("RGB")
    if picture.format == "JPEG" and picture.mode == "CMYK" and "adobe" not in picture.info:
        return ImageChops.invert(picture)  # Adobe stores CMYK negative, and Pillow treats every file as Adobe's
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.mode == "P":
        colours = picture.tag_v2.get(_COLOUR_MAP, ())
        if colours and max(colours) < 256:  # the definition has 16 bits, but some writers use 8
            third = len(colours) // 3
            picture.putpalette([value for n in range(third) for value in colours[n::third]])
    return picture


def _has_unmeant_alpha(picture: "Image") -> bool:
    """Return whether a fourth channel may be padding. Many programs write zeros there, and every program shows such a file."""
    from PIL import TiffImagePlugin

    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return _EXTRA_SAMPLES not in picture.tag_v2
    return picture.format == "BMP"


def _grey_range(picture: "Image") -> tuple[float, float]:
    """Return the values of black and of white in numbers of up to 16 bits."""
    from PIL import TiffImagePlugin

    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 0, 65535
    white = 2 ** picture.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    return (white, 0) if _is_negative(picture) else (0, white)


def _is_negative(picture: "Image") -> bool:
    """Return whether the lowest number is white. At 8 bits or fewer, Pillow handles that itself."""
    from PIL import TiffImagePlugin

    return isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(_PHOTOMETRIC, 0) == 0


def _small(picture: "Image", pixels: "Image", crop: Crop) -> "Image":
    """Return the part over white, in the image's own colours: L, RGB, CMYK, YCbCr or LAB."""
    from PIL import Image, ImageMath

    ends: tuple[float, float] | None = None
    transparent = pixels.info.get("transparency")
    if pixels.mode.startswith("I;16"):
        ends, pixels = _grey_range(picture), pixels.convert("I")
        if isinstance(transparent, int):
            seen = ImageMath.lambda_eval(lambda of: of["convert"](of["numbers"] != transparent, "L"), numbers=pixels)
            pixels = Image.merge("LA", (_in_grey(pixels, ends), seen.point(lambda value: 255 if value else 0)))
            pixels = pixels.convert("RGBA").convert("RGBa")
    elif pixels.has_transparency_data:
        pixels = pixels.convert("RGBA").convert("RGBa")  # so that invisible pixels do not tint visible ones
    elif pixels.mode in ("1", "P"):  # pixels of these modes have no mean
        pixels = pixels.convert("L" if pixels.mode == "1" else "RGB")
    small = pixels.resize(crop.size, Image.Resampling.LANCZOS, crop.box, reducing_gap=2.0)
    if small.mode in ("I", "F"):
        return _in_grey(small, ends or _found_range(small, negative=_is_negative(picture)))
    if small.mode == "RGBa":
        small = small.convert("RGBA")
        over_white = Image.new("RGB", small.size, "white")
        over_white.paste(small, mask=small)
        return over_white
    return small


def _found_range(numbers: "Image", *, negative: bool) -> tuple[float, float]:
    """Return the values of black and of white if the file does not define them: the extremes of its numbers."""
    least, greatest = numbers.convert("F").getextrema()
    return (greatest, least) if negative else (least, greatest)  # type: ignore[return-value]


def _in_grey(numbers: "Image", ends: tuple[float, float]) -> "Image":
    """Return numbers as shades of grey. `ends` are the values of black and of white."""
    black, white = ends
    scale = 255 / (white - black) if white != black else 0.0
    return numbers.convert("F").point(lambda value: value * scale - black * scale).convert("L")


def _in_srgb(small: "Image", picture: "Image") -> "Image":
    from PIL import Image, ImageCms

    profile = picture.info.get("icc_profile")
    converted: Image.Image | None = None
    if small.mode == "LAB":
        to_rgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(small, to_rgb)
    elif profile and small.mode in ("L", "RGB", "CMYK"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):  # wrong kind of profile
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(small, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    # Paste onto a new image, because Pillow would write a comment of the file into the JPEG.
    bare = Image.new("RGB", small.size)
    bare.paste((converted or small).convert("RGB"))
    return bare


def _upright(small: "Image", picture: "Image") -> "Image":
    """Return the image turned as the file says (EXIF 2.3, 4.6.4 A). This can come last: turning does not move the middle."""
    from PIL.Image import Transpose

    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # as in _decode
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
