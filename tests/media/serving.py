"""A hub whose images Pillow converts in a thread, and that fetches any URL: ``python serving.py <root of the
project>``. Each conversion adds a line to the file `conversions` of the data folder."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Info:
    width: int
    height: int
    size: int
    type: str = "image/webp"


class PillowImages:
    def __init__(self, noted: Path) -> None:
        self._noted = noted

    async def original(self, source: Path, target: Path, *, marked: bool) -> Info:
        return await asyncio.to_thread(self._convert, source, target, 3_000)

    async def thumbnail(self, source: Path, target: Path, width: int) -> Info:
        await asyncio.sleep(0.2)  # others ask for the same one meanwhile
        return await asyncio.to_thread(self._convert, source, target, width)

    def _convert(self, source: Path, target: Path, width: int) -> Info:
        from PIL import Image, ImageOps, UnidentifiedImageError

        from hub.media.images import ImageRefused

        with self._noted.open("a") as noted:
            noted.write(f"{width}\n")
        try:
            with Image.open(source, formats=("JPEG", "PNG", "WEBP", "GIF")) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise ImageRefused("This is no image that the hub takes.") from error
        upright.thumbnail((width, 100_000))
        upright.save(target, "WEBP", quality=82)
        return Info(*upright.size, target.stat().st_size)


@dataclass(frozen=True)
class Fetched:
    type: str
    url: str


class AnyFetcher:
    async def download(self, url: str, target: BinaryIO, most_bytes: int, *, strict: bool = True) -> Any:
        import httpx

        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(url)
            answer.raise_for_status()
        target.write(answer.content)
        return Fetched(answer.headers.get("content-type", ""), url)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

    import httpx

    from hub.media.files import UrlSource
    from hub.serve import serve
    from hub.settings import Settings

    settings = Settings()
    images = PillowImages(settings.data_dir / "conversions")
    urls = UrlSource(AnyFetcher(), (httpx.HTTPError, httpx.InvalidURL))
    sys.exit(serve(settings, images=images, urls=urls))
