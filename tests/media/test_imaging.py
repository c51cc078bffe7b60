"""What is made of an image: each file of the corpus, orientations, colours, sizes, marks, and what is left out."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from hub.media.containers.exif import orientation_of
from hub.media.containers.reading import read_still
from hub.media.errors import BadImage
from hub.media.imaging import convert, write_webp
from hub.media.jobs import THUMBNAIL_WIDTHS, ImageInfo, ImageJob, Watermark, thumbnail
from tests.media import corpus, making
from tests.media.corpus import ACCEPTED, REFUSED, Accepted, Refused
from tests.media.making import BLUE, GREEN, RED, WHITE, chunks_of, saved

TOLERANCE = 5
"""What JPEG and the arithmetic of profiles alter."""


def converted(data: bytes, job: ImageJob | None = None) -> Image.Image:
    return convert(read_still(data), job or ImageJob())


def pixel(image: Image.Image, left: float = 0.25, top: float = 0.25) -> tuple[int, ...]:
    found = image.getpixel((int(image.width * left), int(image.height * top)))
    assert isinstance(found, tuple)
    return found


def assert_colour(found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert len(found) == len(wanted), f"{found}: {wanted} wanted"
    if wanted[-1:] == (0,) and len(wanted) == 4:  # transparent: its colour does not show
        found = (0, 0, 0, found[3])
    assert all(abs(a - b) <= TOLERANCE for a, b in zip(found, wanted, strict=True)), f"{found}: {wanted} wanted"


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_an_image_is_converted(case: Accepted) -> None:
    image = converted(case.make())
    assert image.size == case.size
    assert_colour(pixel(image), case.colour)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_another_file_is_refused_by_what_is_wrong_with_it(case: Refused) -> None:
    with pytest.raises(BadImage) as refused:
        converted(case.make())
    assert case.words in refused.value.text
    assert refused.value.limit_name == case.limit
    assert len(refused.value.text) < 120


UPRIGHT = (RED, GREEN, BLUE, WHITE)
TURNED = {1: "rgbw", 2: "grwb", 3: "wbgr", 4: "bwrg", 5: "rbgw", 6: "brwg", 7: "wgbr", 8: "gwrb"}
"""The quarters of the stored image, in the order of the shown ones, by orientation (CIPA DC-008, 4.6.4)."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_images_are_turned_upright(form: str, orientation: int) -> None:
    options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {"lossless": True}
    order = ">" if form == "PNG" else "<"
    data = saved(making.quarters(), form, exif=making.exif(orientation, order), **options)
    image = converted(data)
    assert image.size == (making.SIZE if orientation < 5 else making.SIZE[::-1])
    colours = dict(zip("rgbw", UPRIGHT, strict=True))
    for place, name in zip(((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)), TURNED[orientation], strict=True):
        assert_colour(pixel(image, *place), colours[name])


def test_the_orientation_is_that_of_pillow() -> None:
    """The parser of our own agrees with Pillow about all orientations in both orders of bytes."""
    for orientation in range(12):
        for order in "<>":
            body = making.exif(orientation, order)
            theirs = Image.Exif()
            theirs.load(body)
            assert orientation_of(body) == (theirs[0x0112] if 1 <= orientation <= 8 else 1)


@pytest.mark.parametrize("length", range(0, 70, 3))
def test_exif_that_ends_early_has_no_orientation(length: int) -> None:
    assert orientation_of(making.exif(6)[:length]) in (1, 6)


def secrets() -> list[bytes]:
    return [b"secret", b"Exif", b"ICC", b"acsp", b"xmp", b"Cam", b"Photoshop", b"script", b"ftyp"]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_nothing_but_pixels_is_written(case: Accepted, tmp_path: Path) -> None:
    """The result has no metadata, no further frames, and nothing of what stood behind the image."""
    written = written_of(case.make(), tmp_path)
    assert set(chunks_of(written)) <= {b"VP8 ", b"VP8X", b"ALPH"}
    assert struct.unpack("<I", written[4:8])[0] + 8 == len(written)
    assert not [text for text in secrets() if text in written]


def written_of(data: bytes, folder: Path, job: ImageJob | None = None) -> bytes:
    target = folder / "result.webp"
    info = write_webp(read_still(data), target, job or ImageJob())
    written = target.read_bytes()
    with Image.open(BytesIO(written)) as image:
        assert info == ImageInfo(*image.size, len(written), "image/webp")
    return written


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    written_of(corpus.jpeg(), tmp_path)
    with pytest.raises(FileExistsError):
        written_of(corpus.jpeg(), tmp_path)


def test_an_opaque_image_has_no_alpha(tmp_path: Path) -> None:
    assert set(chunks_of(written_of(corpus.rgba((*RED, 255)), tmp_path))) == {b"VP8 "}


@pytest.mark.parametrize(
    ("size", "job", "result"),
    [
        ((4_000, 100), ImageJob(), (3_000, 75)),
        ((100, 4_000), ImageJob(), (75, 3_000)),
        ((3_000, 100), ImageJob(), (3_000, 100)),
        ((4_000, 1), ImageJob(), (3_000, 1)),
        ((640, 480), thumbnail(320), (320, 240)),
        ((300, 900), thumbnail(160), (160, 480)),
        ((100, 50), thumbnail(1_280), (100, 50)),
        ((8, 4_000), thumbnail(160), (6, 3_000)),
    ],
)
def test_images_are_made_smaller_but_never_larger(
    size: tuple[int, int], job: ImageJob, result: tuple[int, int]
) -> None:
    assert converted(saved(making.plain(size=size), "PNG"), job).size == result


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_width_of_a_thumbnail_is_that_of_the_upright_image(orientation: int) -> None:
    data = saved(making.plain(size=(640, 480)), "JPEG", exif=making.exif(orientation))
    assert converted(data, thumbnail(160)).size == ((160, 120) if orientation == 1 else (160, 213))


def test_thumbnails_have_listed_widths() -> None:
    assert [thumbnail(width).width for width in THUMBNAIL_WIDTHS] == [160, 320, 640, 1_280]
    with pytest.raises(ValueError, match="321"):
        thumbnail(321)


def photo(width: int, height: int) -> Image.Image:
    """Return an image with shades, edges and a little noise."""
    shades = Image.radial_gradient("L").resize((width, height))
    noise = Image.effect_noise((width, height), 20)
    edges = Image.effect_noise((width // 16, height // 16), 90).resize((width, height), Image.Resampling.NEAREST)
    return Image.merge("RGB", (ImageChops.add(shades, noise, 2), edges, shades))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the root of the mean square of what two images differ by."""
    rms = ImageStat.Stat(ImageChops.difference(one, other)).rms
    return max(rms)


def test_the_draft_of_a_jpeg_differs_less_than_webp_alters() -> None:
    """A JPEG of 800 pixels is decoded at half of its size for a thumbnail of 320."""
    data = saved(photo(800, 600), "JPEG", quality=92)
    draft = converted(data, thumbnail(320))
    with Image.open(BytesIO(data)) as image:
        whole = image.resize((320, 240), Image.Resampling.LANCZOS)
    packed = Image.open(BytesIO(saved(whole, "WEBP", quality=82))).convert("RGB")
    assert 0 < difference(whole, draft) < difference(whole, packed) / 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_is_small_enough_keeps_its_pixels(form: str) -> None:
    data = saved(photo(300, 200), form)
    with Image.open(BytesIO(data)) as image:
        assert difference(image.convert("RGB"), converted(data)) == 0


def test_edges_of_transparent_pixels_keep_their_colour() -> None:
    """A red square before transparent green stays red where it is averaged with what does not show."""
    image = making.plain("RGBA", (*GREEN, 0), (400, 400))
    image.paste((*RED, 255), (101, 101, 301, 301))
    small = converted(saved(image, "PNG"), ImageJob(width=100))
    shown = [value for value in small.get_flattened_data() if value[3] > 8]
    assert max(green for _, green, _, _ in shown) <= TOLERANCE


# Marks.


def marked_part(image: Image.Image, job: ImageJob) -> tuple[int, int, int, int] | None:
    """Return the part of an image that a mark changes."""
    data = saved(image, "PNG")
    return ImageChops.difference(converted(data), converted(data, job)).getbbox(alpha_only=False)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(600, 400), (400, 600), (200, 1_000), (1_000, 200)])
def test_a_text_is_set_in_the_lower_right_corner(size: tuple[int, int], mode: str) -> None:
    image = making.plain(mode, (60, 90, 120, 100)[: len(mode)], size)
    box = marked_part(image, ImageJob(watermark=Watermark(text="© hub.example")))
    assert box is not None
    left, top, right, bottom = box
    assert left > 0
    assert top > size[1] * 0.8
    assert size[0] * 0.9 < right < size[0]
    assert size[1] * 0.9 < bottom < size[1]


def test_a_long_text_fits_into_the_image() -> None:
    box = marked_part(making.plain(size=(900, 600)), ImageJob(watermark=Watermark(text="hub " * 25)))
    assert box is not None
    assert box[0] > 0
    assert box[2] < 900


def test_a_small_image_gets_no_text() -> None:
    assert marked_part(making.plain(size=(100, 100)), ImageJob(watermark=Watermark(text="hub"))) is None


@pytest.mark.parametrize(
    ("size", "mark"), [((400, 400), (100, 50)), ((2_000, 2_000), (200, 100)), ((40, 400), (10, 5))]
)
def test_a_file_takes_a_quarter_of_the_image_at_most(
    size: tuple[int, int], mark: tuple[int, int], tmp_path: Path
) -> None:
    file = tmp_path / "mark.png"
    file.write_bytes(saved(making.plain("RGBA", (*BLUE, 255), (200, 100)), "PNG"))
    box = marked_part(making.plain(size=size), ImageJob(watermark=Watermark(file=str(file))))
    assert box is not None
    assert (box[2] - box[0], box[3] - box[1]) == mark


def test_the_mark_keeps_its_own_transparency(tmp_path: Path) -> None:
    file = tmp_path / "mark.png"
    file.write_bytes(saved(making.plain("RGBA", (*BLUE, 128), (100, 100)), "PNG"))
    image = converted(saved(making.plain(size=(400, 400)), "PNG"), ImageJob(watermark=Watermark(file=str(file))))
    assert_colour(pixel(image, 0.9, 0.9), (127, 0, 128))
