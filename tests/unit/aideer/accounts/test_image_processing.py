"""What people send as a picture, and what becomes of it: every mode, every way up, and what is no picture at all."""

import io
import struct
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageChops, ImageCms, ImageDraw, ImageOps

from aideer.accounts import image_processing
from aideer.core.errors import AideerError

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 40), (30, 40, 210), (230, 220, 30)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
PLACES = {"top left": (32, 32), "top right": (96, 32), "bottom left": (32, 96), "bottom right": (96, 96)}


def quarters(
    size: tuple[int, int] = (200, 200), colours: tuple[Any, ...] = (RED, GREEN, BLUE, YELLOW), mode: str = "RGB"
) -> Image.Image:
    """A picture of four colours: top left, top right, bottom left, bottom right."""
    picture = Image.new(mode, size)
    draw = ImageDraw.Draw(picture)
    for n, colour in enumerate(colours):
        x, y = n % 2 * size[0] // 2, n // 2 * size[1] // 2
        draw.rectangle((x, y, x + size[0] // 2 - 1, y + size[1] // 2 - 1), fill=colour)
    return picture


def file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


def shown(data: bytes) -> Image.Image:
    """What is made of a file; whatever was sent, it has this shape."""
    made = image_processing.make_avatar(data)
    assert made.startswith(b"\xff\xd8\xff\xe0")
    assert made.endswith(b"\xff\xd9")
    picture = Image.open(io.BytesIO(made))
    picture.load()
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (128, 128))
    assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert len(made) < 40_000
    return picture


def close(seen: object, wanted: tuple[int, ...], by: int = 8) -> bool:
    assert isinstance(seen, tuple)
    return all(abs(a - b) <= by for a, b in zip(seen, wanted, strict=True))


def corners(picture: Image.Image) -> list[object]:
    return [picture.getpixel(place) for place in PLACES.values()]


def assert_quarters(picture: Image.Image, *wanted: tuple[int, ...], by: int = 8) -> None:
    for place, seen, colour in zip(PLACES, corners(picture), wanted, strict=True):
        assert close(seen, colour, by), f"{place}: {seen}, not {colour}"


def refusal(data: bytes) -> tuple[int, str]:
    with pytest.raises(AideerError) as raised:
        image_processing.make_avatar(data)
    return raised.value.status, raised.value.code


# Every mode


def greys(mode: str, *values: float) -> Image.Image:
    return quarters(colours=values, mode=mode)


def half_seen() -> Image.Image:
    """Red, red that cannot be seen, half seen blue, white."""
    return quarters(colours=((*RED, 255), (*RED, 0), (*BLUE, 128), (*WHITE, 255)), mode="RGBA")


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    picture = greys("P", 0, 1, 2, 3)
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def colour_key() -> bytes:
    return file(quarters(), transparency=GREEN)


HALF_BLUE = (143, 148, 233)
MODES: dict[str, tuple[bytes, tuple[tuple[int, ...], ...]]] = {
    "1": (file(greys("1", 0, 1, 1, 0)), (BLACK, WHITE, WHITE, BLACK)),
    "L": (file(greys("L", 0, 90, 180, 255)), (BLACK, (90,) * 3, (180,) * 3, WHITE)),
    "L, JPEG": (file(greys("L", 0, 90, 180, 255), "JPEG"), (BLACK, (90,) * 3, (180,) * 3, WHITE)),
    "L with a transparent value": (
        file(greys("L", 0, 90, 180, 255), transparency=90),
        (BLACK, WHITE, (180,) * 3, WHITE),
    ),
    "LA": (
        file(quarters(colours=((0, 255), (0, 0), (0, 128), (200, 255)), mode="LA")),
        (BLACK, WHITE, (127,) * 3, (200,) * 3),
    ),
    "LA, TIFF": (
        file(quarters(colours=((0, 255), (0, 0), (0, 128), (200, 255)), mode="LA"), "TIFF"),
        (BLACK, WHITE, (127,) * 3, (200,) * 3),
    ),
    "P": (file(palette(RED, GREEN, BLUE, YELLOW)), (RED, GREEN, BLUE, YELLOW)),
    "P, GIF": (file(palette(RED, GREEN, BLUE, YELLOW), "GIF"), (RED, GREEN, BLUE, YELLOW)),
    "P with a transparent entry": (
        file(palette(RED, GREEN, BLUE, YELLOW), "GIF", transparency=1),
        (RED, WHITE, BLUE, YELLOW),
    ),
    "P with half transparent entries": (
        file(palette(RED, RED, BLUE, WHITE), transparency=bytes([255, 0, 128, 255])),
        (RED, WHITE, HALF_BLUE, WHITE),
    ),
    "PA, TIFF": (file(half_seen().convert("PA"), "TIFF"), (RED, WHITE, HALF_BLUE, WHITE)),
    "RGB": (file(quarters()), (RED, GREEN, BLUE, YELLOW)),
    "RGB with a transparent colour": (colour_key(), (RED, WHITE, BLUE, YELLOW)),
    "RGBA over white": (file(half_seen()), (RED, WHITE, HALF_BLUE, WHITE)),
    "RGBA, WebP": (file(half_seen(), "WEBP", lossless=True, exact=True), (RED, WHITE, HALF_BLUE, WHITE)),
    "RGBA, AVIF": (file(half_seen(), "AVIF", quality=95), (RED, WHITE, HALF_BLUE, WHITE)),
    "RGBA, TIFF": (file(half_seen(), "TIFF"), (RED, WHITE, HALF_BLUE, WHITE)),
    "RGB, WebP": (file(quarters(), "WEBP", quality=95), (RED, GREEN, BLUE, YELLOW)),
    "RGB, AVIF": (file(quarters(), "AVIF", quality=95), (RED, GREEN, BLUE, YELLOW)),
    "RGB, BMP": (file(quarters(), "BMP"), (RED, GREEN, BLUE, YELLOW)),
    "YCbCr, JPEG": (file(quarters(), "JPEG", quality=95), (RED, GREEN, BLUE, YELLOW)),
    "YCbCr, progressive JPEG": (file(quarters(), "JPEG", quality=95, progressive=True), (RED, GREEN, BLUE, YELLOW)),
    "YCbCr, TIFF": (file(quarters().convert("YCbCr"), "TIFF"), (RED, GREEN, BLUE, YELLOW)),
    "CMYK, JPEG": (file(quarters().convert("CMYK"), "JPEG", quality=95), (RED, GREEN, BLUE, YELLOW)),
    "CMYK, TIFF": (file(quarters().convert("CMYK"), "TIFF"), (RED, GREEN, BLUE, YELLOW)),
    "LAB, TIFF": (
        file(quarters(colours=((0, 128, 128), (255, 128, 128), (137, 128, 128), (255, 128, 128)), mode="LAB"), "TIFF"),
        (BLACK, WHITE, (128,) * 3, WHITE),
    ),
    "I;16": (file(greys("I;16", 0, 23130, 46260, 65535)), (BLACK, (90,) * 3, (180,) * 3, WHITE)),
    "I;16, TIFF": (file(greys("I;16", 0, 23130, 46260, 65535), "TIFF"), (BLACK, (90,) * 3, (180,) * 3, WHITE)),
    "I, from its least to its greatest": (
        file(greys("I", -1000, 0, 500, 1000), "TIFF"),
        (BLACK, (127,) * 3, (191,) * 3, WHITE),
    ),
    "I, all the same": (file(greys("I", 7, 7, 7, 7), "TIFF"), (BLACK,) * 4),
    "F, from its least to its greatest": (
        file(greys("F", 0.0, 0.25, 0.5, 1.0), "TIFF"),
        (BLACK, (64,) * 3, (127,) * 3, WHITE),
    ),
}


def bmp(*pixels: tuple[int, int, int, int], version: int = 4, alpha: int = 0xFF000000) -> bytes:
    """A BMP of four pixels (RGBA; top left, top right, bottom left, bottom right) with masks for its channels."""
    size = {4: 108, 5: 124}[version]
    rows = b"".join(bytes((b, g, r, a)) for n in (2, 3, 0, 1) for r, g, b, a in [pixels[n]])
    header = struct.pack("<IiiHHIIiiII", size, 2, 2, 1, 32, 3, len(rows), 2835, 2835, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, alpha)
    header += b"\0" * (size - len(header))
    return b"BM" + struct.pack("<IHHI", 14 + size + len(rows), 0, 0, 14 + size) + header + rows


def any_png(depth: int, colour: int, rows: list[bytes], transparent: bytes = b"") -> bytes:
    """A PNG of 2 x len(rows) pixels of any depth and kind of colour, which Pillow itself does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", 2, len(rows), depth, colour, 0, 0, 0))]
    parts += [(b"tRNS", transparent)] if transparent else []
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def any_tiff(photometric: int, bits: tuple[int, ...], rows: list[bytes], **tags: tuple[int, ...]) -> bytes:
    """A TIFF of 2 x len(rows) pixels, uncompressed, little endian. Further tags: t258=(…), as SHORT."""
    strip = b"".join(rows)
    found = {
        256: (2,),
        257: (len(rows),),
        258: bits,
        259: (1,),
        262: (photometric,),
        277: (len(bits),),
        278: (len(rows),),
    }
    found |= {int(name[1:]): values for name, values in tags.items()} | {279: (len(strip),)}
    offset, blob, entries = 8 + len(strip), b"", []
    for tag, values in sorted({**found, 273: (8,)}.items()):
        data = struct.pack(f"<{len(values)}H", *values)
        if len(data) > 4:
            entries.append(struct.pack("<HHII", tag, 3, len(values), offset + len(blob)))
            blob += data
        else:
            entries.append(struct.pack("<HHI", tag, 3, len(values)) + data.ljust(4, b"\0"))
    return (
        b"II*\0"
        + struct.pack("<I", offset + len(blob))
        + strip
        + blob
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + b"\0" * 4
    )


def shorts(order: str, *values: int) -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values)


def not_adobe(data: bytes) -> bytes:
    """A JPEG without Adobe's marker."""
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]


def wide(*colour: int) -> tuple[int, ...]:
    return tuple(257 * value for value in colour)


GREYS = (BLACK, (85,) * 3, (170,) * 3, WHITE)
COLOURS = (RED, GREEN, BLUE, YELLOW)
CMYK = file(ImageChops.invert(quarters().convert("CMYK")), "JPEG", quality=95)
MAP = [value for channel in zip(*COLOURS, strict=True) for value in (*channel, *[0] * 252)]
ODD: dict[str, tuple[bytes, tuple[tuple[int, ...], ...]]] = {
    "BMP V4 whose alpha is not meant": (bmp(*((*c, 0) for c in COLOURS)), COLOURS),
    "BMP V5 whose alpha is not meant": (bmp(*((*c, 0) for c in COLOURS), version=5), COLOURS),
    "BMP V4 whose alpha is meant": (
        bmp((*RED, 255), (*RED, 0), (*BLUE, 128), (*WHITE, 255)),
        (RED, WHITE, HALF_BLUE, WHITE),
    ),
    "BMP V4 without alpha": (bmp(*((*c, 0) for c in COLOURS), alpha=0), COLOURS),
    "PNG of 16 bits with a transparent grey": (
        any_png(16, 0, [shorts(">", 0, 21845), shorts(">", 43690, 65535)], shorts(">", 21845)),
        (BLACK, WHITE, (170,) * 3, WHITE),
    ),
    "PNG of 16 bits with a grey near the transparent one": (
        any_png(16, 0, [shorts(">", 0, 21845), shorts(">", 43690, 65535)], shorts(">", 21846)),
        GREYS,
    ),
    "PNG of 16 bits, all transparent": (any_png(16, 0, [shorts(">", 7, 7)] * 2, shorts(">", 7)), (WHITE,) * 4),
    "PNG of 4 bits with a transparent grey": (
        any_png(4, 0, [b"\x05", b"\xaf"], shorts(">", 5)),
        (BLACK, WHITE, (170,) * 3, WHITE),
    ),
    "PNG of 2 bits with a transparent grey": (
        any_png(2, 0, [b"\x10", b"\xb0"], shorts(">", 1)),
        (BLACK, WHITE, (170,) * 3, WHITE),
    ),
    "PNG of 2 bits": (any_png(2, 0, [b"\x10", b"\xb0"]), GREYS),
    "PNG of 1 bit with a transparent black": (any_png(1, 0, [b"\x40", b"\x80"], shorts(">", 0)), (WHITE,) * 4),
    "PNG of 1 bit with a transparent white": (
        any_png(1, 0, [b"\x40", b"\x80"], shorts(">", 1)),
        (BLACK, WHITE, WHITE, BLACK),
    ),
    "PNG of 16 bits in colours": (
        any_png(16, 2, [shorts(">", *wide(*RED, *GREEN)), shorts(">", *wide(*BLUE, *YELLOW))]),
        COLOURS,
    ),
    "PNG of 16 bits with a transparent colour": (
        any_png(
            16, 2, [shorts(">", *wide(*RED, *GREEN)), shorts(">", *wide(*BLUE, *YELLOW))], shorts(">", *wide(*GREEN))
        ),
        (RED, WHITE, BLUE, YELLOW),
    ),
    "PNG of 16 bits with alpha": (
        any_png(16, 6, [shorts(">", *wide(*RED, 255, *RED, 0)), shorts(">", *wide(*BLUE, 128, *WHITE, 255))]),
        (RED, WHITE, HALF_BLUE, WHITE),
    ),
    "PNG of 16 bits, grey with alpha": (
        any_png(16, 4, [shorts(">", *wide(0, 255, 0, 0)), shorts(">", *wide(0, 128, 200, 255))]),
        (BLACK, WHITE, (127,) * 3, (200,) * 3),
    ),
    "TIFF of 1 bit, least is white": (any_tiff(0, (1,), [b"\x40", b"\x80"]), (WHITE, BLACK, BLACK, WHITE)),
    "TIFF of 1 bit by fax, least is white": (
        file(greys("1", 0, 255, 255, 0), "TIFF", compression="group4", tiffinfo={262: 0}),
        (BLACK, WHITE, WHITE, BLACK),
    ),
    "TIFF of 8 bits, least is white": (any_tiff(0, (8,), [b"\xff\xaa", b"\x55\x00"]), GREYS),
    "TIFF of 16 bits, least is white": (any_tiff(0, (16,), [shorts("<", 65535, 43690), shorts("<", 21845, 0)]), GREYS),
    "TIFF of 16 bits": (any_tiff(1, (16,), [shorts("<", 0, 21845), shorts("<", 43690, 65535)]), GREYS),
    "TIFF of 12 bits": (any_tiff(1, (12,), [b"\x00\x05\x55", b"\xaa\xaf\xff"]), GREYS),
    "TIFF of floats, least is white": (
        file(greys("F", 3, 2, 1, 0), "TIFF", tiffinfo={262: 0}),
        GREYS,
    ),
    "TIFF whose fourth channel is padding that nothing declares": (
        any_tiff(2, (8,) * 4, [bytes((*RED, 0, *GREEN, 0)), bytes((*BLUE, 0, *YELLOW, 0))]),
        COLOURS,
    ),
    "TIFF whose alpha is declared": (
        any_tiff(2, (8,) * 4, [bytes((*RED, 0, *GREEN, 0)), bytes((*BLUE, 0, *YELLOW, 0))], t338=(2,)),
        (WHITE,) * 4,
    ),
    "TIFF with a colour map of 16 bits": (any_tiff(3, (8,), [b"\0\1", b"\2\3"], t320=wide(*MAP)), COLOURS),
    "TIFF with a colour map of 8 bits": (any_tiff(3, (8,), [b"\0\1", b"\2\3"], t320=tuple(MAP)), COLOURS),
    "TIFF of 16 bits in colours": (
        any_tiff(2, (16,) * 3, [shorts("<", *wide(*RED, *GREEN)), shorts("<", *wide(*BLUE, *YELLOW))]),
        COLOURS,
    ),
    "JPEG in CMYK that is Adobe's": (file(quarters().convert("CMYK"), "JPEG", quality=95), COLOURS),
    "JPEG in CMYK that is nobody's": (not_adobe(CMYK), COLOURS),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_files_are_shown_as_they_are_meant(kind: str) -> None:
    data, wanted = ODD[kind]
    assert_quarters(shown(data), *wanted, by=16)


def test_what_a_picture_hides_on_purpose_stays_hidden() -> None:
    """Only where alpha is often padding are pixels shown that it hides."""
    hidden = quarters(colours=tuple((*colour, 0) for colour in COLOURS), mode="RGBA")
    for kind in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        assert_quarters(shown(file(hidden, kind, **options)), *(WHITE,) * 4)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_shown_in_its_colours(mode: str) -> None:
    data, wanted = MODES[mode]
    # Numbers without a white of their own are stretched, past the ends where a filter has rung.
    assert_quarters(shown(data), *wanted, by=14 if mode.startswith(("I,", "F,", "CMYK")) else 8)


def test_a_float_picture_with_no_numbers_in_it_is_a_picture() -> None:
    assert shown(file(Image.new("F", (9, 9), float("nan")), "TIFF"))
    assert shown(file(Image.new("F", (9, 9), float("inf")), "TIFF"))


# Every way up


def exif(kind: int, value: bytes) -> bytes:
    """EXIF with an orientation of this type (2 text, 3 short, 4 long) and these four bytes."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", 0x0112, kind, 1) + value + b"\0\0\0\0"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("size", [(128, 128), (300, 200), (200, 300)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_the_file_says(orientation: int, size: tuple[int, int], kind: str) -> None:
    upright = quarters((128, 128))
    turned = {
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.rotate(180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90),
        6: lambda p: p.rotate(90),  # the file's top is the picture's right side
        7: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(-90),
        8: lambda p: p.rotate(-90),
    }[orientation](upright)
    stored = Image.new("RGB", size, WHITE)
    stored.paste(
        turned.resize((min(size), min(size)), Image.Resampling.NEAREST),
        ((size[0] - min(size)) // 2, (size[1] - min(size)) // 2),
    )
    tag = exif(3, bytes([orientation, 0, 0, 0]))
    options = {"quality": 95} if kind in ("JPEG", "AVIF") else {"lossless": True} if kind == "WEBP" else {}
    assert_quarters(shown(file(stored, kind, exif=tag, **options)), RED, GREEN, BLUE, YELLOW, by=10)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_moves_every_pixel_to_its_place(orientation: int) -> None:
    """Exactly: a lossless file of 128×128, against Pillow's own way of turning the whole picture first."""
    noise = Image.effect_noise((128, 128), 60).convert("RGB")
    ImageDraw.Draw(noise).rectangle((5, 9, 40, 20), fill=RED)
    data = file(noise, exif=exif(3, bytes([orientation, 0, 0, 0])))
    expected = io.BytesIO()
    ImageOps.exif_transpose(Image.open(io.BytesIO(data))).save(
        expected, "JPEG", quality=88, subsampling=0, optimize=True
    )
    assert image_processing.make_avatar(data) == expected.getvalue()


@pytest.mark.parametrize(
    "tag",
    [
        (3, b"\0\0\0\0"),
        (3, b"\t\0\0\0"),
        (4, b"\xff" * 4),
        (2, b"6\0\0\0"),
        (7, b"\x06\0\0\0"),
        (5, b"\xff" * 4),
        (99, b"6666"),
    ],
)
def test_a_way_up_that_does_not_exist_is_none(tag: tuple[int, bytes]) -> None:
    assert_quarters(shown(file(quarters(), "JPEG", exif=exif(*tag), quality=95)), RED, GREEN, BLUE, YELLOW)
    assert shown(file(quarters(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 30))


def test_the_middle_is_what_is_kept() -> None:
    wide = Image.new("RGB", (600, 100), WHITE)
    wide.paste(quarters((100, 100)), (250, 0))
    assert_quarters(shown(file(wide)), RED, GREEN, BLUE, YELLOW)
    assert_quarters(shown(file(wide.rotate(-90, expand=True))), BLUE, RED, YELLOW, GREEN)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (127, 129), (257, 255), (1023, 1025)])
def test_any_size(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG", "GIF", "WEBP"):
        assert close(shown(file(Image.new("RGB", size, RED), kind)).getpixel((64, 64)), RED, 12)


# Nothing of the file but its pixels


def srgb() -> bytes:
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def swapped() -> bytes:
    """An RGB profile that says of red that it is green: sRGB's with two columns exchanged."""
    profile = bytearray(srgb())
    count = struct.unpack(">I", profile[128:132])[0]
    entries = [132 + 12 * n for n in range(count)]
    at = {bytes(profile[entry : entry + 4]): slice(entry + 4, entry + 12) for entry in entries}
    red, green = at[b"rXYZ"], at[b"gXYZ"]
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile)


def test_metadata_does_not_survive() -> None:
    described = Image.Exif()
    described[0x010E] = "a description"
    described[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}
    data = file(quarters(), "JPEG", exif=described, comment=b"a comment", dpi=(300, 300), icc_profile=srgb())
    assert shown(data)
    made = image_processing.make_avatar(data)
    assert all(marker in data for marker in (b"Exif", b"description", b"a comment", b"ICC_PROFILE"))
    assert not any(marker in made for marker in (b"Exif", b"description", b"a comment", b"ICC_PROFILE"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_colours_are_what_the_profile_says(kind: str) -> None:
    plain = Image.new("RGB", (64, 64), (255, 0, 0))
    assert close(shown(file(plain, kind, icc_profile=srgb())).getpixel((64, 64)), (255, 0, 0))
    assert close(shown(file(plain, kind, icc_profile=swapped())).getpixel((64, 64)), (0, 255, 0), 12)


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 200, srgb()[:300], srgb()])
def test_a_profile_that_does_not_fit_is_none(profile: bytes) -> None:
    assert_quarters(shown(file(quarters(), icc_profile=profile)), RED, GREEN, BLUE, YELLOW)
    cmyk = file(quarters().convert("CMYK"), "JPEG", icc_profile=profile)
    assert_quarters(shown(cmyk), RED, GREEN, BLUE, YELLOW, by=14)
    assert shown(file(greys("L", 0, 90, 180, 255), icc_profile=profile))


# Animated ones


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"])
def test_of_several_frames_it_is_the_first(kind: str) -> None:
    frames = [Image.new("RGB", (128, 128), colour) for colour in (RED, GREEN, BLUE)]
    data = file(frames[0], kind, save_all=True, append_images=frames[1:])
    assert close(shown(data).getpixel((64, 64)), RED, 12)


# What is refused


def png(width: int, height: int) -> bytes:
    """A PNG of any size by its header, with nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def patched(kind: str, place: int, value: bytes) -> bytes:
    """A small picture with other bytes where its header has the size."""
    data = bytearray(file(Image.new("P" if kind == "GIF" else "RGB", (8, 8)), kind))
    data[place : place + len(value)] = value
    return bytes(data)


def jpeg(width: int, height: int) -> bytes:
    start_of_frame = file(Image.new("RGB", (8, 8)), "JPEG").index(b"\xff\xc0")
    return patched("JPEG", start_of_frame + 5, struct.pack(">HH", height, width))


def webp(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", 0x10) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = file(Image.new("RGBA", (8, 8)), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0)


BOMBS: dict[str, bytes] = {
    "PNG": png(50_000, 50_000),
    "PNG, just too many": png(25_000_001, 1),
    "PNG, as many as there can be": png(2**31 - 1, 2**31 - 1),
    "JPEG": jpeg(65_500, 65_500),
    "JPEG, which could be decoded at an eighth": jpeg(8_000, 8_000),
    "WebP": webp(16_384, 16_384),
    "BMP": patched("BMP", 18, struct.pack("<ii", 60_000, 60_000)),
    "GIF": patched("GIF", 6, struct.pack("<HH", 65_535, 65_535)),
    "TIFF": tiff(1_000_000, 1_000_000),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    began = time.process_time()
    assert refusal(BOMBS[kind]) == (422, "too_many_pixels")
    assert time.process_time() - began < 0.5


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    """Each scan goes over the whole picture, and can be made of a few bytes: 4 MB of them would take half an hour."""
    data = file(Image.new("RGB", (500, 500), RED), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert shown(data[:-2] + last * 20 + data[-2:])
    assert refusal(data[:-2] + last * 1000 + data[-2:]) == (422, "broken_picture")


WHOLE: dict[str, bytes] = {
    kind: file(Image.effect_noise((200, 200), 90).convert("RGB"), kind)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_picture_that_is_not_all_there_is_refused(kind: str) -> None:
    data = WHOLE[kind]
    assert shown(data)
    for part in (0.99, 0.9, 0.5, 0.1):
        assert refusal(data[: int(len(data) * part)])[1] in ("broken_picture", "unsupported_picture")
    assert refusal(data[:3])[1] == "unsupported_picture"


WRONG: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/etc/passwd) (r) file\n%%EOF\n",
    "EPS in a DOS header": struct.pack("<7I", 0xC6D3D0C5, 30, 100, 0, 0, 0, 0) + b"\xff\xff%!PS-Adobe-3.0 EPSF-3.0\n",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "ZIP": b"PK\x03\x04" + b"\0" * 100,
    "ICO": file(Image.new("RGB", (16, 16)), "ICO"),
    "PPM": file(Image.new("RGB", (16, 16)), "PPM"),
    "TGA": file(Image.new("RGB", (16, 16)), "TGA"),
    "PSD": b"8BPS\0\x01" + b"\0" * 100,
    "JPEG 2000": file(Image.new("RGB", (16, 16)), "JPEG2000"),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100,
    "an MP4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0" * 100,
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_picture_of_the_list_is_refused(kind: str) -> None:
    assert refusal(WRONG[kind]) == (422, "unsupported_picture")


def test_postscript_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    eps = file(quarters(), "EPS")  # which also has Pillow know how to read one
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("PostScript would have been run"))
    assert refusal(eps) == (422, "unsupported_picture")


def test_four_megabytes_and_not_a_byte_more() -> None:
    data = file(quarters())
    padded = data + b"\0" * (4_194_304 - len(data))
    assert_quarters(shown(padded), RED, GREEN, BLUE, YELLOW)
    assert refusal(padded + b"\0") == (413, "file_too_large")


def outcome(data: bytes) -> None:
    """Whatever it is, it is a picture or the sender's error."""
    try:
        end = str(image_processing.make_avatar(data)[:2])
    except AideerError as error:
        end = error.code
    assert end in (r"b'\xff\xd8'", "unsupported_picture", "broken_picture", "too_many_pixels")


STARTS = [*(data[:n] for data in WHOLE.values() for n in (12, 40)), *WRONG.values(), b""]


@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_any_bytes_are_a_picture_or_refused(start: bytes, rest: bytes) -> None:
    outcome(start + rest)


SMALL: list[bytes] = [data for data, _ in (*MODES.values(), *ODD.values())] + [
    file(
        Image.effect_noise((24, 24), 90).convert("RGB"),
        kind,
        exif=exif(3, b"\x06\0\0\0"),
        icc_profile=srgb(),
    )
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
]


@given(st.sampled_from(SMALL), st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_damaged_picture_is_a_picture_or_refused(whole: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(whole)
    for place, value in damage:
        # As often near the beginning, where sizes and offsets are, as anywhere.
        data[place % min(len(data), 200 if place % 2 else len(data))] = value
    outcome(bytes(data))
