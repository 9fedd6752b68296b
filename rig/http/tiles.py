"""Map tiles from a local PMTiles file (version 3, pictures) or from a source that the user names; else none."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pmtiles import reader
from pmtiles.tile import Compression, MagicNumberNotFound, SpecVersionUnsupported, TileType

from configs import SettingError
from rig.errors import UnknownError

TYPES = {
    TileType.PNG: "image/png",
    TileType.JPEG: "image/jpeg",
    TileType.WEBP: "image/webp",
    TileType.AVIF: "image/avif",
}
_READER: Any = reader  # it ships no types
LOCAL = "/api/tiles/{z}/{x}/{y}"
MOST_ZOOM = 19


class Tiles:
    """Where the pages find tiles. Raises SettingError for what is neither a file of pictures nor an address."""

    def __init__(self, source: str) -> None:
        self.template, self.origin, self.most_zoom = "", "", MOST_ZOOM
        self._reader: Any = None
        if source.startswith(("http://", "https://")):
            if not all(name in source for name in ("{z}", "{x}", "{y}")):
                raise SettingError(f"map_tiles {source} has no {{z}}, {{x}} and {{y}}")
            parts = urlsplit(source)
            self.template, self.origin = source, f"{parts.scheme}://{parts.netloc}"
        elif source:
            self._open(Path(source))

    def get(self, zoom: int, column: int, row: int) -> tuple[bytes, str]:
        """A tile of the file and its type. Raises UnknownError."""
        is_inside = self._reader is not None and zoom <= self.most_zoom and max(column, row) < 1 << zoom
        data = self._reader.get(zoom, column, row) if is_inside else None
        if data is None:
            raise UnknownError(f"there is no tile {zoom}/{column}/{row}")
        return bytes(data), self._type

    def _open(self, file: Path) -> None:
        try:
            with file.open("rb") as opened:
                self._reader = _READER.Reader(_READER.MmapSource(opened))
                header = self._reader.header()
        except (OSError, ValueError, KeyError, MagicNumberNotFound, SpecVersionUnsupported) as error:
            raise SettingError(f"map_tiles {file} is no PMTiles file ({error})") from error
        if header["tile_type"] not in TYPES or header["tile_compression"] not in (
            Compression.NONE,
            Compression.UNKNOWN,
        ):
            raise SettingError(f"map_tiles {file} holds no pictures (png, jpeg, webp, avif)")
        self._type = TYPES[header["tile_type"]]
        self.template, self.most_zoom = LOCAL, int(header["max_zoom"])
