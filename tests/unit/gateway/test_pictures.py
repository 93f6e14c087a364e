import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.tokens.pictures import MAX_JPEG_SEGMENTS, Size, read_size

SIDES = st.integers(1, 16_383)
SMALL = st.binary(max_size=40)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\0\0\0"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def webp(chunk: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBP" + chunk + struct.pack("<I", len(body)) + body


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x10\x02\0\x9d\x01\x2a" + struct.pack("<HH", width, height | 0x4000))


def webp_lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14))


def webp_extended(width: int, height: int) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return webp(b"VP8X", b"\x10\0\0\0" + sides)


def jpeg(width: int, height: int, *, frame: int = 0xC2, before: bytes = b"") -> bytes:
    header = struct.pack(">BBHBHHB", 0xFF, frame, 17, 8, height, width, 3)
    return b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + before + header + b"\0" * 9


MAKERS = [png, gif, webp_lossy, webp_lossless, webp_extended, jpeg]


@pytest.mark.parametrize("make", MAKERS)
@given(width=SIDES, height=SIDES)
def test_the_size_is_read_from_the_header(make: object, width: int, height: int) -> None:
    assert read_size(make(width, height)) == Size(width, height)  # type: ignore[operator]


@given(st.lists(SMALL, max_size=20), st.sampled_from([0xE1, 0xDB, 0xC4, 0xFE]), st.sampled_from([0xC0, 0xC1]))
def test_in_a_jpeg_other_segments_are_passed_over(bodies: list[bytes], marker: int, frame: int) -> None:
    before = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for body in bodies)
    assert read_size(jpeg(640, 480, frame=frame, before=before + b"\xff\xff")) == Size(640, 480)


@given(st.sampled_from(MAKERS), st.binary(max_size=200), st.integers(0, 60))
def test_whatever_the_bytes_are_there_is_a_size_or_none(make: object, noise: bytes, keep: int) -> None:
    whole: bytes = make(300, 200)  # type: ignore[operator]
    for data in (noise, whole[:keep], whole[:keep] + noise, noise + whole):
        size = read_size(data)
        assert size is None or (size.width_px > 0 and size.height_px > 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        png(0, 5),
        gif(5, 0),
        jpeg(0, 0),
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"BM" + b"\0" * 60,
    ],
)
def test_what_has_no_size_has_none(data: bytes) -> None:
    assert read_size(data) is None


@pytest.mark.parametrize("filler", [b"\xff\xe0\0\2", b"\xff\xd0", b"\xff"])
def test_a_file_made_to_be_searched_for_long_is_given_up(filler: bytes) -> None:
    assert read_size(jpeg(640, 480, before=filler * 100)) == Size(640, 480)
    assert read_size(jpeg(640, 480, before=filler * MAX_JPEG_SEGMENTS)) is None


def test_real_files_are_read() -> None:
    # A pixel each, as written by common encoders.
    dot_png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    dot_gif = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    dot_webp = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="
    for text in (dot_png, dot_gif, dot_webp):
        assert read_size(base64.b64decode(text)) == Size(1, 1)
