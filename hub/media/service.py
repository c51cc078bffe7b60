"""The parts of the media service, assembled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auth.secret_key import SecretKey
from hub.fetch import Fetcher
from hub.media.access import FileAccess
from hub.media.files import MediaService
from hub.media.images import Images
from hub.media.incoming import INCOMING, IncomingFolder
from hub.media.links import Links
from hub.media.records import FileRecords
from hub.media.storage import Storage
from hub.media.sweeping import MediaKeeper
from hub.media.thumbnails import Thumbnails
from hub.services.entities import EntityService
from stores.protocol import Engine


@dataclass(frozen=True, slots=True)
class Media:
    files: MediaService
    access: FileAccess
    thumbnails: Thumbnails
    keeper: MediaKeeper
    records: FileRecords
    storage: Storage


def make_media(
    engine: Engine,
    entities: EntityService,
    key: SecretKey,
    images: Images,
    fetcher: Fetcher,
    *,
    url: str,
    folder: Path,
    most_bytes: int,
    interval: float,
) -> Media:
    """Return the media service. `url` names the storage; empty: the folder `media` of `folder`, which is that of the
    hub's data. Raises CannotOpen for a wrong URL."""
    storage = Storage.at(url) if url else Storage.in_folder(folder / "media")
    incoming = IncomingFolder(folder / INCOMING)
    records, links = FileRecords(engine), Links(key)
    files = MediaService(engine, entities, records, storage, incoming, images, links, most_bytes, fetcher)
    thumbnails = Thumbnails(records, storage, incoming, images)
    access = FileAccess(engine, entities.registry, records, links)
    keeper = MediaKeeper(engine, entities.registry, records, storage, incoming, thumbnails, files.lost, interval)
    return Media(files, access, thumbnails, keeper, records, storage)
