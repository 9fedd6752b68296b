"""OGC GeoPackage 1.3: photos as points with the field names of QGIS's own import, and the track as lines."""

import sqlite3
import struct
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rig.clock import iso_utc
from rig.gnss.positions import Track
from rig.photo.collection import Collection, Located

APPLICATION_ID, VERSION = 0x47504B47, 10300  # "GPKG", 1.3
POINT_Z, LINE_Z = 1001, 1002
WGS_84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)
SCHEMA = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY,
  organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
"""
PHOTO_FIELDS = {  # the first nine are QGIS's
    "photo": "TEXT",
    "filename": "TEXT",
    "directory": "TEXT",
    "altitude": "DOUBLE",
    "direction": "DOUBLE",
    "rotation": "INTEGER",
    "longitude": "DOUBLE",
    "latitude": "DOUBLE",
    "timestamp": "DATETIME",
    "camera": "TEXT",
    "time_error_ms": "DOUBLE",
    "position_sigma_m": "DOUBLE",
    "quality": "INTEGER",
    "interpolation": "TEXT",
    "heading_deg": "DOUBLE",
    "speed_mps": "DOUBLE",
    "sharpness": "DOUBLE",
    "video": "TEXT",
    "pts_s": "DOUBLE",
    "flags": "TEXT",
}
TRACK_FIELDS = {"begin": "DATETIME", "end": "DATETIME", "quality": "INTEGER", "fixes": "INTEGER"}


def content(collection: Collection) -> bytes:
    """The file: layers `photos` and `track`."""
    database = sqlite3.connect(":memory:")
    try:
        database.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {SCHEMA}")
        database.executemany(
            "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)",
            [
                ("Undefined cartesian SRS", -1, "NONE", -1, "undefined"),
                ("Undefined geographic SRS", 0, "NONE", 0, "undefined"),
                ("WGS 84", 4326, "EPSG", 4326, WGS_84),
            ],
        )
        located = collection.located()
        extent = _extent([photo.longitude for photo in located], [photo.latitude for photo in located])
        _add_layer(database, "photos", "POINT", PHOTO_FIELDS, [_photo(photo) for photo in located], extent)
        _add_layer(database, "track", "LINESTRING", TRACK_FIELDS, list(_tracks(collection)), _track_extent(collection))
        if located:  # not the time of writing: the same photos give the same bytes
            database.execute("UPDATE gpkg_contents SET last_change = ?", (max(photo.row.utc for photo in located),))
        database.commit()
        return database.serialize()
    finally:
        database.close()


def _add_layer(
    database: sqlite3.Connection,
    name: str,
    kind: str,
    fields: dict[str, str],
    rows: Sequence[tuple[object, ...]],
    extent: Sequence[float | None],
) -> None:
    columns = ", ".join(f'"{field}" {sort}' for field, sort in fields.items())
    database.execute(f'CREATE TABLE "{name}" (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom {kind}, {columns})')
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, min_x, min_y, max_x, max_y, srs_id)"
        " VALUES (?, 'features', ?, ?, ?, ?, ?, 4326)",
        (name, name, *extent),
    )
    database.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', ?, 4326, 2, 0)", (name, kind))
    marks = ", ".join("?" * (len(fields) + 1))
    names = ", ".join(f'"{field}"' for field in fields)
    database.executemany(f'INSERT INTO "{name}" (geom, {names}) VALUES ({marks})', rows)


def _photo(photo: Located) -> tuple[object, ...]:
    row = photo.row
    directory, _, filename = row.photo.rpartition("/")
    known: tuple[object, ...] = (row.photo, filename.rpartition(".")[0], directory, photo.altitude_m)
    known += (photo.direction_deg, 0, photo.longitude, photo.latitude, row.utc)
    others = tuple(getattr(row, name) for name in list(PHOTO_FIELDS)[len(known) :])
    if photo.altitude_m is None:
        shape = struct.pack("<BIdd", 1, POINT_Z - 1000, photo.longitude, photo.latitude)
    else:
        shape = struct.pack("<BIddd", 1, POINT_Z, photo.longitude, photo.latitude, photo.altitude_m)
    return (_header() + shape, *known, *others)


def _tracks(collection: Collection) -> Iterator[tuple[object, ...]]:
    for track, leg in collection.legs():
        if leg.stop - leg.start > 1:
            moments = (iso_utc(int(track.utc_ns[at])) for at in (leg.start, leg.stop - 1))
            yield (_line(track, leg), *moments, int(track.quality[leg.start]), leg.stop - leg.start)


def _line(track: Track, leg: slice) -> bytes:
    places = [track.longitude[leg], track.latitude[leg]]
    if np.isfinite(track.altitude_m[leg]).all():
        places.append(track.altitude_m[leg])
    kind = LINE_Z if len(places) == 3 else LINE_Z - 1000
    return _header() + struct.pack("<BII", 1, kind, len(places[0])) + np.column_stack(places).astype("<f8").tobytes()


def _header() -> bytes:
    return b"GP" + struct.pack("<BBi", 0, 1, 4326)


def _extent(longitudes: npt.ArrayLike, latitudes: npt.ArrayLike) -> tuple[float | None, ...]:
    """Least and largest of both; None without any."""
    x, y = np.asarray(longitudes, dtype=float), np.asarray(latitudes, dtype=float)
    return (float(x.min()), float(y.min()), float(x.max()), float(y.max())) if len(x) else (None,) * 4


def _track_extent(collection: Collection) -> tuple[float | None, ...]:
    legs = list(collection.legs())
    if not legs:
        return _extent([], [])
    (track, first), (_, last) = legs[0], legs[-1]
    whole = slice(first.start, last.stop)
    return _extent(track.longitude[whole], track.latitude[whole])
