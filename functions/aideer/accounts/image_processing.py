"""Avatar images: the small image that is made of an upload. uploads/pictures.py reads the upload."""

from aideer.core.errors import Detail, TooLarge
from aideer.uploads import pictures

SIDE = 128
MOST_BYTES = 4 * 1024 * 1024
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")


def make_avatar(file: bytes) -> bytes:
    """Return the largest square in the middle of an image, as a JPEG of SIDE × SIDE: upright, over white, in sRGB.

    An animated image gives its first frame. Raises TooLarge (more than MOST_BYTES), and Unprocessable as `pictures.redraw` does.
    """
    if len(file) > MOST_BYTES:
        raise TooLarge("file_too_large", Detail("An image can have at most {most} bytes.", most=MOST_BYTES))
    return pictures.redraw(file, _FORMATS, _find_square).jpeg


def _find_square(width: int, height: int) -> pictures.Crop:
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return pictures.Crop((left, top, left + side, top + side), (SIDE, SIDE))
