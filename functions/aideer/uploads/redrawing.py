"""The image that messages show of a picture: the whole picture, drawn anew, at a size that models see."""

from aideer.core.errors import Detail, Unprocessable
from aideer.uploads import pictures

MOST_SIDE = 2048
"""The most pixels of a side of the image. Models see no more of it."""
_LEAST_SIDE, _MOST_RATIO = 11, 200
"""DashScope's requirements for an image: more than 10 pixels on each side, and a ratio of at most 200."""


def redraw_whole(
    file: bytes, media_type: str, decoder: str, most_pixels: int = pictures.MOST_PIXELS
) -> pictures.Redrawn:
    """Return the image of a picture of this type. The size in its header is compared with `most_pixels` before it is decoded.

    Raises Unprocessable: wrong_file_type, picture_too_narrow, too_many_pixels and broken_picture.
    """

    def find_crop(width: int, height: int) -> pictures.Crop:
        if width * height > most_pixels:
            raise Unprocessable("too_many_pixels", Detail("An image can have at most {most} pixels.", most=most_pixels))
        return _find_whole(width, height)

    try:
        return pictures.redraw(file, [decoder], find_crop)
    except Unprocessable as error:
        if error.code != "unsupported_picture":
            raise
        raise Unprocessable("wrong_file_type", Detail("This file is not {type}.", type=media_type)) from None


def _find_whole(width: int, height: int) -> pictures.Crop:
    """Return the whole picture, at most MOST_SIDE on a side."""
    least, most = sorted((width, height))
    scale = min(1.0, MOST_SIDE / most)
    if least * scale < _LEAST_SIDE or most > _MOST_RATIO * least:
        raise Unprocessable(
            "picture_too_narrow",
            Detail(
                "An image must have at least {least} pixels on each side, and be at most {times} times as long as wide.",
                least=_LEAST_SIDE,
                times=_MOST_RATIO,
            ),
        )
    return pictures.Crop((0, 0, width, height), (round(width * scale), round(height * scale)))
