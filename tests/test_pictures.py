"""One reader of pictures: every format and mode gives the pixels that a person sees.

Every bad file costs one row.
"""

import io
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from stages.modalities.image import files, pictures
from stages.modalities.image.files import PictureError
from stages.modalities.image.pictures import Limits
from tests.conftest import ROOT

LIMITS = Limits(least_side=8, most_side=1000, most_pixels=500_000)
HEIGHT, WIDTH = 24, 40
CORNERS = np.array(  # red, green; blue, yellow
    [[(200, 30, 40), (40, 180, 60)], [(30, 60, 210), (230, 220, 50)]], np.uint8
)
RGB = CORNERS.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1)
GREY = np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
RAMP = np.tile(np.linspace(0, 65535, WIDTH).round().astype(np.uint16), (HEIGHT, 1))
COLOUR = Image.fromarray(RGB)
# EXIF orientation -> what NumPy makes of the stored picture, independent of the table under test.
TURNED = {
    1: RGB, 2: np.fliplr(RGB), 3: np.rot90(RGB, 2), 4: np.flipud(RGB),
    5: np.fliplr(np.rot90(RGB, -1)), 6: np.rot90(RGB, -1), 7: np.fliplr(np.rot90(RGB, 1)),
    8: np.rot90(RGB, 1),
}  # fmt: skip


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def three(grey: Any) -> Any:
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, 2)


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0, rows: bytes = b""
) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunks)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(
    grey: Any, bits: int, photometric: int = 1, kind: int = 1, data: bytes | None = None
) -> bytes:
    """Return a TIFF of one strip, which Pillow itself may be unable to write."""
    data = data or grey.tobytes()
    tags = [(256, grey.shape[1]), (257, grey.shape[0]), (258, bits), (259, 1), (262, photometric),
            (273, 8), (277, 1), (278, grey.shape[0]), (279, len(data)),
            (339, kind)]  # fmt: skip
    directory = (
        struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        + bytes(4)
    )
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory


def lay_on_white(rgb: Any, alpha: Any) -> Any:
    share = np.asarray(alpha)[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


ALPHA = np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
PALETTE = COLOUR.quantize(4, dither=Image.Dither.NONE)
SEEN_THROUGH = int(np.asarray(PALETTE)[0, 0])  # the palette's number of the red corner
HOLED = np.where((RGB[0, 0] == RGB).all(2)[..., None], np.uint8(255), RGB)
# K = 0: R = 255 - C.
CMYK = Image.fromarray(np.dstack([255 - RGB, np.zeros((HEIGHT, WIDTH), np.uint8)]), "CMYK")
LAB = ImageCms.profileToProfile(
    COLOUR, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
)
TWELVE = np.tile(np.linspace(0, 4095, WIDTH).round().astype(np.uint16), (HEIGHT, 1))
ROWS16 = b"".join(b"\0" + row.astype(">u2").tobytes() for row in RAMP)
PACKED12 = b"".join(
    bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in TWELVE.reshape(-1, 2).tolist()
)

# What is stored, what a person sees, and by how many of 255 levels they may differ (0 if nothing is
# lost).
KNOWN: dict[str, tuple[bytes, Any, int]] = {
    "jpeg": (encoded(COLOUR, "JPEG", quality=95, subsampling=0), RGB, 12),
    "jpeg grey": (encoded(Image.fromarray(GREY), "JPEG", quality=95), three(GREY), 6),
    "jpeg cmyk as Adobe writes it": (encoded(CMYK, "JPEG", quality=95), RGB, 12),
    "png": (encoded(COLOUR, "PNG"), RGB, 0),
    "png grey": (encoded(Image.fromarray(GREY), "PNG"), three(GREY), 0),
    "png 16-bit grey": (encoded(Image.fromarray(RAMP), "PNG"), three(np.rint(RAMP / 257)), 0),
    "png 16-bit grey, white is transparent": (
        png(WIDTH, HEIGHT, chunk(b"tRNS", b"\0\0"), depth=16, rows=ROWS16),
        three(np.where(RAMP == 0, 255, np.rint(RAMP / 257))), 0),
    "png 1-bit": (encoded(Image.fromarray(GREY > 127), "PNG"), three((GREY > 127) * 255), 0),
    "png palette": (encoded(PALETTE, "PNG"), RGB, 0),
    "png palette, one colour transparent": (encoded(PALETTE, "PNG", transparency=SEEN_THROUGH),
                                            HOLED, 0),
    "png rgb, one colour transparent": (
        encoded(COLOUR, "PNG", transparency=tuple(RGB[0, 0].tolist())), HOLED, 0),
    "png rgba": (encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "PNG"),
                 lay_on_white(RGB, ALPHA), 1),
    "png grey and alpha": (encoded(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"),
                           lay_on_white(three(GREY), ALPHA), 1),
    "webp lossless": (encoded(COLOUR, "WEBP", lossless=True), RGB, 0),
    "webp rgba": (encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True,
                          exact=True), lay_on_white(RGB, ALPHA), 1),
    "gif": (encoded(PALETTE, "GIF"), RGB, 0),
    "gif, one colour transparent": (encoded(PALETTE, "GIF", transparency=SEEN_THROUGH), HOLED, 0),
    "bmp": (encoded(COLOUR, "BMP"), RGB, 0),
    "bmp 1-bit": (encoded(Image.fromarray(GREY > 127), "BMP"), three((GREY > 127) * 255), 0),
    "bmp palette": (encoded(PALETTE, "BMP"), RGB, 0),
    "tiff": (encoded(COLOUR, "TIFF"), RGB, 0),
    "tiff lzw": (encoded(COLOUR, "TIFF", compression="tiff_lzw"), RGB, 0),
    "tiff group 4": (encoded(Image.fromarray(GREY > 127), "TIFF", compression="group4"),
                     three((GREY > 127) * 255), 0),
    "tiff palette": (encoded(PALETTE, "TIFF"), RGB, 0),
    "tiff rgba": (encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "TIFF"),
                  lay_on_white(RGB, ALPHA), 1),
    "tiff cmyk": (encoded(CMYK, "TIFF"), RGB, 0),
    "tiff ycbcr": (encoded(COLOUR.convert("YCbCr"), "TIFF"), RGB, 2),
    "tiff lab": (encoded(LAB, "TIFF"), RGB, 8),
    "tiff 16-bit": (encoded(Image.fromarray(RAMP), "TIFF"), three(np.rint(RAMP / 257)), 0),
    "tiff 16-bit, big-endian": (
        encoded(Image.frombytes("I;16B", (WIDTH, HEIGHT), RAMP.astype(">u2").tobytes()), "TIFF"),
        three(np.rint(RAMP / 257)), 0),
    "tiff 16-bit, white is zero": (tiff(RAMP, 16, photometric=0),
                                   three(np.rint(255 - RAMP / 257)), 1),
    "tiff 12-bit": (tiff(TWELVE, 12, data=PACKED12), three(np.rint(TWELVE / 4095 * 255)), 0),
    "tiff 32-bit whole numbers": (tiff(RAMP.astype(np.int32), 32, kind=2),
                                  three(np.rint(RAMP / 257)), 0),
    "tiff floats": (tiff((RAMP / 65535).astype(np.float32), 32, kind=3),
                    three(np.rint(RAMP / 257)), 0),
}  # fmt: skip
FRAMES = [COLOUR, COLOUR.rotate(180), COLOUR.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
ANIMATED = {
    kind: encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:], **options)
    for kind, options in {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}.items()
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(data: bytes, name: str = "picture.jpg") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return written


def refusal(path: Path, limits: Limits = LIMITS) -> PictureError:
    with pytest.raises(PictureError) as caught:
        pictures.read(path, limits)
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) <= 200
    return caught.value


@pytest.mark.parametrize("name", KNOWN)
def test_a_picture_has_the_pixels_that_a_person_sees(name: str, write: Callable[..., Path]) -> None:
    data, seen, tolerance = KNOWN[name]
    # Every file is named .jpg: the content says what it is.
    picture = pictures.read(write(data), LIMITS)
    assert (picture.rgb.shape, picture.rgb.dtype, picture.note) == (
        (HEIGHT, WIDTH, 3),
        np.uint8,
        None,
    )
    assert np.abs(picture.rgb.astype(int) - seen).max() <= tolerance
    assert picture.rgb.flags.c_contiguous
    assert not picture.rgb.flags.writeable


def test_a_16_bit_ramp_keeps_its_mean(write: Callable[..., Path]) -> None:
    """Pillow 13's convert("RGB") clips at 255, which gives a mean of 252."""
    assert pictures.read(write(KNOWN["png 16-bit grey"][0]), LIMITS).rgb.mean() == pytest.approx(
        127.5, abs=0.5
    )


@pytest.mark.parametrize("values", [[-1.0, 0.5], [0.0, 200.0], [0.0, float("nan")]])
def test_values_without_an_agreed_white_are_refused(
    values: list[float], write: Callable[..., Path]
) -> None:
    ramp = np.resize(np.array(values, np.float32), (16, 16))
    error = refusal(write(tiff(ramp, 32, kind=3)))
    assert error.code == "unknown_scale"
    assert error.reason.endswith("not 0 to 1")


@pytest.mark.parametrize("number", TURNED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_its_exif_says(
    kind: str, number: int, write: Callable[..., Path]
) -> None:
    exact = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    rgb = pictures.read(write(encoded(COLOUR, kind, exif=orientation(number), **exact)), LIMITS).rgb
    assert rgb.shape == TURNED[number].shape
    assert np.abs(rgb.astype(int) - TURNED[number]).max() <= 12


@pytest.mark.parametrize("kind", ANIMATED)
def test_of_several_frames_the_first_is_read_and_a_note_says_so(
    kind: str, write: Callable[..., Path]
) -> None:
    picture = pictures.read(write(ANIMATED[kind]), LIMITS)
    assert (picture.rgb == RGB).all()
    assert picture.note == "first of 3 frames"


def test_a_preview_in_a_jpeg_is_no_frame(write: Callable[..., Path]) -> None:
    picture = pictures.read(
        write(encoded(COLOUR, "MPO", save_all=True, append_images=[FRAMES[1]], quality=95)), LIMITS
    )
    assert picture.note is None
    # Two pixels share the colours at the edges.
    assert np.abs(picture.rgb.astype(int) - RGB).mean() <= 5


NO_PICTURE = {
    "text": b"just a text, and no picture at all",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 24\n%%EndComments\n(x) run\n%%EOF\n",
    "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 24, 40, 8, 3) + bytes(100),
    "ppm": b"P6 40 24 255\n" + bytes(40 * 24 * 3),
    "ico": encoded(COLOUR, "ICO", sizes=[(16, 16)]),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize("name", NO_PICTURE)
def test_what_is_no_picture_is_refused_whatever_its_name(
    name: str, write: Callable[..., Path]
) -> None:
    error = refusal(write(NO_PICTURE[name], "picture.jpg"))
    assert error.code == "not_a_picture"
    assert "JPEG, PNG, WEBP, GIF, BMP, TIFF" in error.reason


def test_no_other_plug_in_of_pillow_is_ever_loaded(tmp_path: Path) -> None:
    for number, data in enumerate([*NO_PICTURE.values(), KNOWN["tiff"][0]]):
        (tmp_path / f"{number}.eps").write_bytes(data)
    code = (
        "import sys; from functools import partial; from pathlib import Path; "
        "from stages.modalities.image import pictures\n"
        "work = partial(pictures.read, limits=pictures.Limits(8, 99, 9999))\n"
        "found = list(pictures.each(sorted(Path(sys.argv[1]).iterdir()), work, 1))\n"
        "print(len(found), [m for m in ('Eps', 'Psd', 'Pdf', 'Ico', 'Jpeg2K') "
        "if f'PIL.{m}ImagePlugin' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{len(NO_PICTURE) + 1} []\n"


def test_each_refusal_states_the_fact_and_the_limit(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    small, wide = encoded(COLOUR.resize((7, 300)), "PNG"), encoded(COLOUR.resize((1001, 9)), "PNG")
    found = [
        refusal(write(data))
        for data in (small, wide, encoded(COLOUR.resize((900, 800)), "BMP"), b"")
    ]
    found += [
        refusal(tmp_path),
        refusal(tmp_path / "none.png"),
        refusal(tmp_path / "a\0b"),
        refusal(write(small) / "below"),
    ]
    assert [(e.code, e.reason) for e in found[:-2]] == [
        ("too_small", "7 x 300 pixels, each side at least 8"),
        ("too_large", "1,001 x 9 pixels, each side at most 1,000"),
        ("too_large", "900 x 800 pixels, at most 500,000 in all"),
        ("empty_file", "has no bytes"),
        ("not_regular", "not a regular file"),
        ("missing_file", "is not there"),
    ]
    assert [e.code for e in found[-2:]] == ["missing_file", "missing_file"]


def test_a_pack_holds_pictures_as_they_are_and_each_fault_of_it_is_named(tmp_path: Path) -> None:
    one, two = encoded(COLOUR, "PNG"), encoded(Image.fromarray(GREY), "PNG")
    for path in (tmp_path / "pack.zip", tmp_path / "again.zip"):
        files.pack([("1.png", one), ("2.png", two)], path)
    pack = tmp_path / "pack.zip"
    assert pack.read_bytes() == (tmp_path / "again.zip").read_bytes()
    found = list(
        pictures.each(
            [pack / "1.png", pack / "2.png"] * 20, partial(pictures.read, limits=LIMITS), 2
        )
    )
    assert all(
        not isinstance(of, PictureError) and np.array_equal(of.rgb, (RGB, three(GREY))[i % 2])
        for i, of in enumerate(found)
    )

    files.pack([("1.png", two)], pack)
    assert np.array_equal(pictures.read(pack / "1.png", LIMITS).rgb, three(GREY)), (
        "written anew, it is read anew"
    )
    assert (
        of := refusal(pack / "2.png")
    ).code == "missing_file" and of.reason == "is not in pack.zip"
    pack.write_bytes(pack.read_bytes()[:-9])
    assert refusal(pack / "1.png").code == "unreadable"
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", one)
    assert "compressed" in refusal(pack / "1.png").reason
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "folder.zip/1.png").write_bytes(one)
    assert np.array_equal(pictures.read(tmp_path / "folder.zip/1.png", LIMITS).rgb, RGB), (
        "a folder of a user's may have such a name"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_descriptor_is_left_open(tmp_path: Path, write: Callable[..., Path]) -> None:
    before = sorted(p.name for p in Path("/proc/self/fd").iterdir())
    for path in (
        tmp_path,
        Path("/dev/zero"),
        write(b"", "empty"),
        write(KNOWN["jpeg"][0][:500], "cut"),
        write(BOMBS["png"], "bomb"),
    ):
        refusal(path)
    pictures.read(write(ANIMATED["TIFF"]), LIMITS)
    assert sorted(p.name for p in Path("/proc/self/fd").iterdir()) == before


def test_a_pipe_a_device_and_a_socket_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket.jpg"))
    signal.alarm(20)  # a read that waits ends the test run
    try:
        for path in (tmp_path / "pipe.jpg", Path("/dev/zero"), tmp_path / "socket.jpg"):
            assert refusal(path).code == "not_regular"
    finally:
        signal.alarm(0)
        listener.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(write: Callable[..., Path]) -> None:
    path = write(KNOWN["png"][0])
    path.chmod(0)
    assert refusal(path).code == "unreadable"


BOMBS = {
    "png": png(60_000, 60_000),
    "png of 100 million pixels": png(10_000, 10_000),
    "gif": b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + KNOWN["gif"][0][10:],
    "bmp": KNOWN["bmp"][0][:18] + struct.pack("<ii", 60_000, 60_000) + KNOWN["bmp"][0][26:],
    "webp": b"RIFF"
    + struct.pack("<I", 22)
    + b"WEBPVP8X"
    + struct.pack("<I", 10)
    + bytes(4)
    + b"\x5f\xea\0" * 2,
    "tiff": tiff(RAMP, 16).replace(
        struct.pack("<HHII", 256, 4, 1, WIDTH), struct.pack("<HHII", 256, 4, 1, 60_000)
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(
    name: str, write: Callable[..., Path]
) -> None:
    code = (
        "import resource, sys; from pathlib import Path; "
        "from stages.modalities.image import pictures\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"try: pictures.read(Path({str(write(BOMBS[name]))!r}), "
        "pictures.Limits(8, 20_000, 50_000_000))\n"
        "except pictures.PictureError as error: print(error.code)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "too_large\nTrue\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "name", ["jpeg", "png", "webp lossless", "gif", "bmp", "tiff", "tiff lzw", "tiff group 4"]
)
def test_a_file_that_was_cut_is_refused_or_whole(name: str, write: Callable[..., Path]) -> None:
    """A cut behind the last pixel (a check sum, an end mark) loses nothing.

    Any other cut is refused, never read as grey.
    """
    data = KNOWN[name][0]
    whole = pictures.read(write(data), LIMITS).rgb
    refused = 0
    for length in range(0, len(data), max(1, len(data) // 150)):
        try:
            assert (pictures.read(write(data[:length]), LIMITS).rgb == whole).all(), length
        except PictureError as error:
            assert error.code in {"truncated", "broken", "not_a_picture", "empty_file"}, error.code
            refused += 1
    assert refused > 20
    assert refusal(write(data[: len(data) // 2])).code in {"truncated", "broken", "not_a_picture"}


def test_broken_bytes_cost_a_row_and_say_nothing(
    write: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """1,500 altered files; BAD_BYTES comes from 120,000 and more.

    A bug of ours must not pass as a bad file.
    """
    exif = encoded(COLOUR, "JPEG", exif=orientation(6))
    originals = [
        *(data for data, _, _ in KNOWN.values()),
        *ANIMATED.values(),
        exif,
        encoded(COLOUR, "WEBP", exif=orientation(6)),
    ]
    draw = random.Random(1)
    codes = set()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(1500):
            data = bytearray(draw.choice(originals))
            for _ in range(draw.choice([1, 1, 2, 4, 10])):
                at = (
                    draw.randrange(min(len(data), 200))
                    if draw.random() < 0.6
                    else draw.randrange(len(data))
                )
                data[at] = draw.choice(
                    [0, 255, 127, 128, draw.randrange(256), data[at] ^ 1 << draw.randrange(8)]
                )
            try:
                pictures.read(write(bytes(data)), LIMITS)
            except PictureError as error:
                assert error.reason.isprintable()
                codes.add(error.code)
    assert codes >= {"broken", "truncated", "not_a_picture", "too_large"}
    assert not said
    assert capfd.readouterr().err == ""  # libtiff writes there by itself


def test_an_animated_gif_that_ends_in_the_head_of_its_second_frame_is_refused(
    write: Callable[..., Path],
) -> None:
    head = ANIMATED["GIF"].index(
        b",", ANIMATED["GIF"].index(b"\x21\xf9", len(ANIMATED["GIF"]) // 3)
    )
    assert refusal(write(ANIMATED["GIF"][: head + 10])).reason.startswith("IndexError")


def test_a_huge_text_in_a_png_is_refused(write: Callable[..., Path]) -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000)))
    rows = b"\0" + bytes(WIDTH)
    assert refusal(write(png(WIDTH, HEIGHT, text, rows=rows * HEIGHT))).code == "broken"
    pictures.read(write(png(WIDTH, HEIGHT, rows=rows * HEIGHT)), LIMITS)


def test_warnings_of_pillow_are_left_as_they_were_for_others(write: Callable[..., Path]) -> None:
    before = list(warnings.filters)
    pictures.read(write(KNOWN["png"][0]), LIMITS)
    refusal(write(BOMBS["png"]))
    assert list(warnings.filters) == before
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(write(BOMBS["png of 100 million pixels"]))


def shade(path: Path, sleep: float) -> tuple[str, int]:
    """Return the name and the grey of a picture; an even grey takes longer."""
    grey = int(pictures.read(path, LIMITS).rgb[0, 0, 0])
    time.sleep(sleep * (grey % 2))
    return path.name, grey


@pytest.mark.parametrize("workers", [1, 2, 3, None])  # one, threads, processes
def test_pictures_come_in_order_whoever_reads_them(workers: int | None, tmp_path: Path) -> None:
    paths = [tmp_path / f"{draw}.png" for draw in random.Random(1).sample(range(1000), 100)]
    for number, path in enumerate(paths):
        path.write_bytes(
            b"no picture" if number == 30 else encoded(Image.new("L", (8, 8), number), "PNG")
        )
    found = list(pictures.each(iter(paths), partial(shade, sleep=0.002), workers))
    bad = found.pop(30)
    assert isinstance(bad, PictureError)
    assert bad.code == "not_a_picture"
    assert found == [(path.name, number) for number, path in enumerate(paths) if number != 30]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_bug_in_the_work_ends_the_run_with_its_traceback(
    workers: int, write: Callable[..., Path]
) -> None:
    with pytest.raises(TypeError):
        list(pictures.each([write(KNOWN["png"][0])], partial(shade, sleep=None), workers))  # type: ignore[arg-type]


def test_paths_are_taken_as_results_are_used(write: Callable[..., Path]) -> None:
    path, taken = write(KNOWN["png"][0]), 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield path

    results = pictures.each(endless(), partial(shade, sleep=0), 2)
    assert [next(results) for _ in range(200)]
    assert taken <= 300
    results.close()  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_worker_processes_end_with_a_parent_that_is_killed(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    code = (
        "import itertools, os; from pathlib import Path; from functools import partial\n"
        "from stages.modalities.image import pictures; from tests.test_pictures import shade\n"
        "if __name__ == '__main__':\n"
        f"    for _ in pictures.each(itertools.repeat(Path({str(write(KNOWN['png'][0]))!r})), "
        "partial(shade, sleep=0), 3): print('read', flush=True)"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MARK_OF_TEST": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment)

    def alive() -> int:
        mark = f"MARK_OF_TEST={tmp_path}".encode()
        count = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                count += (
                    mark in (process / "environ").read_bytes()
                    and b"Z" not in (process / "stat").read_bytes().rpartition(b")")[2].split()[0]
                )
            except OSError:
                continue
        return count

    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"read\n"
        assert alive() >= 4  # the parent and three workers at least
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + 30
    while alive() and time.monotonic() < end:
        time.sleep(0.1)
    assert alive() == 0
