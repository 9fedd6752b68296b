"""Photos and track in the formats of others: GeoJSON, GPX 1.1, KML, and the tables that tools for photos read."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from rig.clock import iso_utc
from rig.errors import UsageError
from rig.files import write_atomically
from rig.gnss.positions import Track
from rig.photo import geopackage
from rig.photo.collection import Collection, Located
from rig.photo.photos import Photo

LEVEL_PITCH_DEG = 90  # of ODM and Pix4D, where 0 looks down
VERTICAL_FACTOR = 2.0  # vertical sigmas of satellite positions are up to twice the horizontal ones
UNKNOWN_SIGMA_M = 5.0  # where a format demands one and none is known
GPX_FIX = {4: "dgps", 5: "dgps", 2: "dgps", 3: "pps", 1: "3d"}  # of GGA qualities; GPX has no word for RTK
KML_COLOUR = {4: "ff739e00", 5: "ff009fe6", 2: "ffd08f3a", 1: "ff005ed5"}  # aabbggrr, as in the report


def parse_formats(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The formats of a list with commas, `all` or `none`; the table itself is always written, `csv` adds nothing.

    Raises UsageError for one that is not known.
    """
    named = [name.strip().lower() for name in text.split(",") if name.strip()]
    if "all" in named:
        return tuple(known)
    if unknown := sorted(set(named) - {*known, "csv", "none"}):
        raise UsageError(f"--format knows no {unknown[0]!r}", cure=f"say some of csv, {', '.join(known)}, all or none")
    return tuple(dict.fromkeys(name for name in named if name in known))


def geojson(collection: Collection) -> bytes:
    """RFC 7946: a point for each photo, with the columns of photos.csv."""
    features = []
    for photo in collection.located():
        place = [round(photo.longitude, 10), round(photo.latitude, 10)]
        if photo.altitude_m is not None:
            place.append(round(photo.altitude_m, 3))
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": place},
                "properties": {
                    name: value
                    for name in Photo.__slots__
                    if "latitude" not in name
                    and "longitude" not in name
                    and (value := getattr(photo.row, name)) not in (None, "")
                }
                | ({"direction_deg": round(photo.direction_deg, 2)} if photo.direction_deg is not None else {}),
            }
        )
    value = {"type": "FeatureCollection", "name": collection.name, "features": features}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def gpx(collection: Collection) -> bytes:
    """GPX 1.1: a waypoint for each photo with a link to it, and the track, one segment for each leg."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<gpx version="1.1" creator="edenCar" xmlns="http://www.topografix.com/GPX/1/1">',
        f"<metadata><name>{escape(collection.name)}</name></metadata>",
    ]
    lines += map(_waypoint, collection.located())
    lines.append(f"<trk><name>{escape(collection.name)}</name>")
    for track, leg in collection.legs():
        lines += ["<trkseg>", *_track_points(track, leg), "</trkseg>"]
    return "\n".join([*lines, "</trk>", "</gpx>", ""]).encode()


def _waypoint(photo: Located) -> str:
    return (
        f'<wpt lat="{photo.latitude:.10f}" lon="{photo.longitude:.10f}">{_elevation(photo.altitude_m)}'
        f"<time>{photo.row.utc}</time><name>{escape(photo.name)}</name>"
        f"<link href='{escape(quote(photo.row.photo))}'><type>image/jpeg</type></link>"
        f"{_fix(photo.row.quality, photo.row.satellites, photo.row.hdop)}</wpt>"
    )


def _track_points(track: Track, leg: slice) -> Iterator[str]:
    for number in range(leg.start, leg.stop):
        satellites = int(track.satellites[number])
        said = _fix(int(track.quality[number]), satellites if satellites >= 0 else None, float(track.hdop[number]))
        yield (
            f'<trkpt lat="{track.latitude[number]:.10f}" lon="{track.longitude[number]:.10f}">'
            f"{_elevation(float(track.altitude_m[number]))}<time>{iso_utc(int(track.utc_ns[number]))}</time>{said}</trkpt>"
        )


def _elevation(altitude_m: float | None) -> str:
    return "" if altitude_m is None or np.isnan(altitude_m) else f"<ele>{altitude_m:.3f}</ele>"


def _fix(quality: int | None, satellites: int | None, hdop: float | None) -> str:
    fix = f"<fix>{GPX_FIX[quality]}</fix>" if quality in GPX_FIX else ""
    count = "" if satellites is None else f"<sat>{satellites}</sat>"
    return fix + count + ("" if hdop is None or np.isnan(hdop) else f"<hdop>{hdop:.2f}</hdop>")


def kml(collection: Collection) -> bytes:
    """KML 2.2: a place mark with its picture for each photo, and the track in the colours of its quality."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>{escape(collection.name)}</name>',
    ]
    for quality, colour in KML_COLOUR.items():
        lines.append(f'<Style id="q{quality}"><LineStyle><color>{colour}</color><width>4</width></LineStyle></Style>')
    lines.append("<Folder><name>photos</name>")
    for photo in collection.located():
        picture = f"<img src='{escape(quote(photo.row.photo))}' width='480'/>"
        turn = "" if photo.direction_deg is None else f"<heading>{photo.direction_deg:.2f}</heading>"
        place = _kml_place(photo.longitude, photo.latitude, photo.altitude_m)
        lines.append(
            f"<Placemark><name>{escape(photo.name)}</name><description>{escape(picture)}</description>"
            f"<TimeStamp><when>{photo.row.utc}</when></TimeStamp>"
            f"<Style><IconStyle><scale>0.6</scale>{turn}</IconStyle></Style>"
            f"<Point><coordinates>{place}</coordinates></Point></Placemark>"
        )
    lines.append("</Folder><Folder><name>track</name>")
    for track, leg in collection.legs():
        places = zip(track.longitude[leg], track.latitude[leg], track.altitude_m[leg], strict=True)
        quality = int(track.quality[leg.start])
        style = f"<styleUrl>#q{quality}</styleUrl>" if quality in KML_COLOUR else ""
        line = " ".join(_kml_place(*map(float, place)) for place in places)
        lines.append(
            f"<Placemark><name>{iso_utc(int(track.utc_ns[leg.start]))}</name>{style}"
            f"<LineString><coordinates>{line}</coordinates></LineString></Placemark>"
        )
    return "\n".join([*lines, "</Folder></Document></kml>", ""]).encode()


def _kml_place(longitude: float, latitude: float, altitude_m: float | None) -> str:
    place = f"{longitude:.10f},{latitude:.10f}"
    return place if altitude_m is None or np.isnan(altitude_m) else f"{place},{altitude_m:.3f}"


def exiftool(collection: Collection) -> bytes:
    """A table for `exiftool -csv=FILE -r photos`, with ExifTool's names of the tags."""
    rows = []
    for photo in collection.located():
        moment = photo.row.utc.replace("-", ":").removesuffix("Z")
        date, _, clock = moment.partition("T")
        rows.append(
            {
                "SourceFile": photo.row.photo,
                "DateTimeOriginal": f"{date} {clock[:8]}",
                "SubSecTimeOriginal": clock[9:],
                "OffsetTimeOriginal": "+00:00",
                "GPSDateStamp": date,
                "GPSTimeStamp": clock,
                "GPSLatitude": f"{photo.latitude:.10f}",
                "GPSLatitudeRef": "S" if photo.latitude < 0 else "N",
                "GPSLongitude": f"{photo.longitude:.10f}",
                "GPSLongitudeRef": "W" if photo.longitude < 0 else "E",
                "GPSAltitude": _number(photo.altitude_m, 3),
                "GPSAltitudeRef": "" if photo.altitude_m is None else int(photo.altitude_m < 0),
                "GPSImgDirection": _number(photo.direction_deg, 2),
                "GPSImgDirectionRef": "" if photo.direction_deg is None else "T",
                "GPSTrack": _number(photo.row.heading_deg, 2),
                "GPSTrackRef": "" if photo.row.heading_deg is None else "T",
                "GPSSpeed": _number(None if photo.row.speed_mps is None else photo.row.speed_mps * 3.6, 3),
                "GPSSpeedRef": "" if photo.row.speed_mps is None else "K",
                "GPSDOP": _number(photo.row.hdop, 2),
                "GPSHPositioningError": _number(photo.row.position_sigma_m, 4),
            }
        )
    return _csv(rows)


def panoramax(photos: Sequence[Located]) -> bytes:
    """The `panoramax.csv` that panoramax_cli finds beside the photos."""
    return _csv(
        [
            {
                "file": photo.name,
                "lat": f"{photo.latitude:.10f}",
                "lon": f"{photo.longitude:.10f}",
                "capture_time": photo.row.utc,
                "Exif.GPSInfo.GPSImgDirection": _fraction(photo.direction_deg, 100),
                "Exif.GPSInfo.GPSHPositioningError": _fraction(photo.row.position_sigma_m, 10_000),
            }
            for photo in photos
        ]
    )


def odm(photos: Sequence[Located]) -> bytes:
    """OpenDroneMap's `geo.txt`: name, longitude, latitude, altitude, yaw, pitch, roll and two accuracies."""
    lines = ["EPSG:4326"]
    for photo in photos:
        row = [photo.name.replace(" ", "_"), f"{photo.longitude:.10f}", f"{photo.latitude:.10f}"]
        if photo.altitude_m is not None:
            row.append(_number(photo.altitude_m, 3))
            if photo.direction_deg is not None:
                row += [_number(photo.direction_deg, 2), str(LEVEL_PITCH_DEG), "0"]
                if photo.row.position_sigma_m is not None:
                    row += _sigmas(photo)
        lines.append(" ".join(row))
    return "\n".join([*lines, ""]).encode()


def metashape(photos: Sequence[Located]) -> bytes:
    """A reference table for Metashape (WGS 84: label, longitude, latitude, altitude, accuracy)."""
    return _csv(
        [
            {
                "label": photo.name,
                "longitude": f"{photo.longitude:.10f}",
                "latitude": f"{photo.latitude:.10f}",
                "altitude": _number(photo.altitude_m, 3),
                **dict(zip(("accuracy_xy", "accuracy_z"), _sigmas(photo), strict=True)),
            }
            for photo in photos
        ]
    )


def pix4d(photos: Sequence[Located]) -> bytes:
    """PIX4Dmatic's geolocation: name, latitude, longitude, z, yaw, pitch, roll and two accuracies, without a header."""
    lines = []
    for photo in photos:
        values = [
            _number(photo.altitude_m or 0.0, 3),
            _number(photo.direction_deg or 0.0, 2),
            str(LEVEL_PITCH_DEG),
            "0",
        ]
        place = [f"{photo.latitude:.10f}", f"{photo.longitude:.10f}"]
        lines.append(",".join([photo.name, *place, *values, *_sigmas(photo)]))
    return "\n".join([*lines, ""]).encode()


def _sigmas(photo: Located) -> list[str]:
    sigma_m = UNKNOWN_SIGMA_M if photo.row.position_sigma_m is None else photo.row.position_sigma_m
    return [_number(sigma_m, 4), _number(sigma_m * VERTICAL_FACTOR, 4)]


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _fraction(value: float | None, down: int) -> str:
    return "" if value is None else f"{round(value * down)}/{down}"


def _csv(rows: Sequence[dict[str, str | int]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


WHOLE: dict[str, tuple[str, Callable[[Collection], bytes]]] = {
    "geojson": ("photos.geojson", geojson),
    "gpx": ("photos.gpx", gpx),
    "kml": ("photos.kml", kml),
    "exiftool": ("exiftool.csv", exiftool),
    "gpkg": ("photos.gpkg", geopackage.content),
}
BESIDE: dict[str, tuple[str, Callable[[Sequence[Located]], bytes]]] = {
    "panoramax": ("panoramax.csv", panoramax),
    "odm": ("geo.txt", odm),
    "metashape": ("metashape.csv", metashape),
    "pix4d": ("pix4d.csv", pix4d),
}
FORMATS = (*WHOLE, *BESIDE)


def write(folder: Path, collection: Collection, formats: Iterable[str]) -> list[Path]:
    """Write these formats: some into the folder, some beside the photos as their readers want it. Raises OSError."""
    located = collection.located()
    by_place: dict[Path, list[Located]] = defaultdict(list)
    for photo in located:
        by_place[_place_beside(folder, photo)].append(photo)
    written = []
    for name in formats:
        if name in WHOLE:
            file, make = WHOLE[name]
            write_atomically(folder / file, make(collection))
            written.append(folder / file)
        elif name in BESIDE:
            file, tabulate = BESIDE[name]
            for place, photos in by_place.items():
                place.mkdir(parents=True, exist_ok=True)
                write_atomically(place / file, tabulate(photos))
                written.append(place / file)
    return written


def _place_beside(folder: Path, photo: Located) -> Path:
    """The photo's folder; where the photos lie elsewhere and stay as they are, one of our own for its camera."""
    path = Path(photo.row.photo)
    inside = not path.is_absolute() and ".." not in path.parts
    return folder / path.parent if inside else folder / "photos" / photo.row.camera
