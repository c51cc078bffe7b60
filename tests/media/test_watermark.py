"""HUB_WATERMARK is a text or a PNG file; anything else stops the start with a line that says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ImageFont

from hub.media.jobs import Watermark
from hub.media.watermark import FONT, read_watermark
from stores.errors import CannotOpen
from tests.media import making
from tests.media.making import saved


@pytest.mark.parametrize("value", ["", "  "])
def test_without_a_value_there_is_no_mark(value: str) -> None:
    assert read_watermark(value) is None


def test_a_text_is_a_mark() -> None:
    assert read_watermark("© hub.example") == Watermark(text="© hub.example")


def test_a_file_is_found_whatever_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Mark.PNG").write_bytes(saved(making.plain("RGBA"), "PNG"))
    monkeypatch.chdir(tmp_path)
    assert read_watermark("Mark.PNG") == Watermark(file=str(tmp_path / "Mark.PNG"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("عقار", "'ارعق': use the path of a PNG file"),
        ("a\nb", "use the path of a PNG file"),
        ("x" * 101, "longer than 100 characters"),
        ("none.png", "No such file"),
        ("text.png", "The file is no image"),
        ("photo.png", "it must be a PNG"),
        ("large.png", "of at most 4 million pixels"),
    ],
)
def test_other_values_are_refused(value: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_bytes(b"hub")
    (tmp_path / "photo.png").write_bytes(saved(making.plain(), "JPEG"))
    (tmp_path / "large.png").write_bytes(saved(making.plain("1", 0, (2_100, 2_000)), "PNG"))
    with pytest.raises(CannotOpen, match=r"^HUB_WATERMARK: ") as refused:
        read_watermark(value)
    assert reason in str(refused.value)


def test_the_font_has_the_characters_that_are_accepted() -> None:
    font = ImageFont.load_default(40)
    missing = bytes(font.getmask("\U0010ffff"))
    assert not [character for character in FONT if bytes(font.getmask(character)) == missing]
