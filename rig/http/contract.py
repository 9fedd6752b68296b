"""What each route takes and gives: checked where a body comes in, told in the API's document."""

import re
from collections.abc import Mapping

from rig.http.uploads import UPLOADS
from rig.http.web import Rules
from rig.recordings import MODES, POSITIONS_ONLY

UPLOADING = re.compile(r"/api/recordings/[^/]+/geotag")  # what may have a long body
DOWNLOADING = ("api.send_recorded_file", "api.download_recording")  # GETs that ask for the PIN
PICTURE_WIDTHS = (320, 1280)
CALIBRATE_S = 10
BLINK_S = 10
JSON, HTML = "application/json", "text/html"
CHARACTERS = r"^[^\x00-\x08\x0b-\x1f\x7f]*$"
EVERY = {"type": "string", "pattern": r"^(?=.*[1-9])\d{1,4}(\.\d{1,3})?[sm]$", "description": "0.5s or 5m"}
TEXT = {"type": "string", "maxLength": 200, "pattern": CHARACTERS}
UTC = {"type": "string", "pattern": r"^20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(\.\d{1,9})?Z$", "maxLength": 40}
AGENT = {"type": "string", "maxLength": 1000, "pattern": CHARACTERS}
DRAW = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 10**15}, "minItems": 2, "maxItems": 2}
TEXTS = {"type": "array", "items": TEXT, "maxItems": 16}
# What request bodies may hold, by endpoint; checked for each request and told in /api/openapi.json.
BODIES: Mapping[str, Rules] = {
    "api.start": {
        "mode": {"type": "string", "enum": list(MODES), "default": MODES[0]},
        "name": TEXT,
        "cameras": {**TEXTS, "description": "serials; all cameras by default"},
        "allow": {"type": "string", "enum": [POSITIONS_ONLY]},
        "every": EVERY,
    },
    "api.calibrate": {"seconds": {"type": "number", "minimum": 1, "maximum": 60, "default": CALIBRATE_S}},
    "api.measure_latency": {
        "seconds": {"type": "number", "minimum": 5, "maximum": 30, "default": BLINK_S},
        "user_agent": {**AGENT, "description": "of the phone; by default what its page says"},
    },
    "api.change_camera": {
        "label": {**TEXT, "maxLength": 40, "description": "left, or nothing for no name"},
        "resolution": {**TEXT, "description": "4k, 1080, ..."},
        "fov": {**TEXT, "description": "linear, wide, ...: the setting lens"},
        "fps": {"type": "integer", "minimum": 1, "maximum": 400},
        "settings": {**TEXTS, "description": "NAME=OPTION each, or recommended; see GET .../settings"},
    },
    "api.log_codes": {
        "page": {"type": "string", "pattern": r"^[0-9a-z]{4,32}$", "description": "4 to 32 of 0-9 and a-z"},
        "user_agent": {**AGENT, "type": ["string", "null"]},
        "refresh_hz": {"type": ["number", "null"], "minimum": 0, "maximum": 1000},
        "offset_bound_ms": {"type": ["number", "null"], "minimum": 0, "maximum": 1e9},
        "missed": {"type": ["integer", "null"], "minimum": 0, "maximum": 10**9},
        "draws": {"type": "array", "items": DRAW, "maxItems": 2000, "description": "[[sequence, UTC in 0.1 ms], ...]"},
    },
    "api.change_recording": {"name": TEXT, "note": {**TEXT, "maxLength": 5000}},
    "api.process": {
        "every": {
            **EVERY,
            "pattern": f"^key$|{EVERY['pattern']}",
            "description": "0.5s, 5m, or key for all key frames",
        },
        "start_utc": {**UTC, "description": "of the first frame, where nothing shows it"},
    },
    "api.geotag": {"positions": {**TEXTS, "description": f"files of this recording, e.g. {UPLOADS}/..."}},
    "api.open_session": {"pin": TEXT},
}
NOTHING: Rules = {}  # of routes that are told all by their address: no body, or an empty object
REQUIRED = {
    "api.log_codes": ("page", "draws"),
    "api.open_session": ("pin",),
    "api.change_camera": (),  # any one of its keys
}
FLAG = {"description": "given or not"}
UPLOAD_FIELDS: Mapping[str, str] = {"api.geotag": "positions"}  # of forms
QUERIES: Mapping[str, Rules] = {
    "api.show_preview": {"wait": FLAG},
    "api.send_recorded_file": {"download": FLAG},
    "api.show_thumbnail": {"width": {"type": "integer", "enum": list(PICTURE_WIDTHS), "default": PICTURE_WIDTHS[0]}},
}
PATHS: Rules = {  # by the parameter's name
    **{name: {"type": "integer", "minimum": 0} for name in ("zoom", "column", "row")},
    "folder": {"type": "string", "enum": ["css", "js"]},
    "recording_id": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d{1,4})?$"},
    "job_id": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
}
TYPES: Mapping[str, str] = {  # of answers that are no JSON
    "api.follow_status": "text/event-stream",
    "api.show_metrics": "text/plain",
    "api.show_preview": "image/jpeg",
    "api.show_thumbnail": "image/jpeg",
    "api.download_recording": "application/zip",
    "api.send_recorded_file": "*/*",
    "api.send_tile": "image/*",
    "pages.send_asset": "text/*",
    "pages.show_chart": "image/png",
    **dict.fromkeys((f"pages.show_{name}" for name in ("drive", "recordings", "recording", "settings", "code")), HTML),
}
KEYS: Mapping[str, tuple[str, ...]] = {  # that objects in answers have
    "api.show_status": ("state", "recording", "cameras", "receiver", "time", "storage", "jobs", "problems"),
    "api.show_time": ("utc_ns", "sigma_ms", "source", "utc"),
    "api.start": ("recording",),
    "api.stop": ("recording",),
    "api.list_cameras": ("cameras",),
    "api.change_camera": ("camera",),
    "api.calibrate": ("seconds", "cameras"),
    "api.test_devices": ("devices",),
    "api.list_recordings": ("recordings", "trash"),
    **dict.fromkeys(("api.get_recording", "api.change_recording", "api.restore_recording"), ("recording",)),
    **dict.fromkeys(("api.process", "api.geotag", "api.get_job", "api.cancel_job"), ("job",)),
    "api.list_photos": ("columns", "rows"),
    "api.list_jobs": ("jobs",),
    "api.show_session": ("closed", "allowed"),
    "api.open_session": ("token",),
}
EXAMPLES: Mapping[str, str] = {  # for curl
    "api.show_status": "HOST/api/status",
    "api.follow_status": "-N --max-time 3 HOST/api/events",
    "api.show_time": "HOST/api/time",
    "api.start": "-X POST HOST/api/start",
    "api.stop": "-X POST HOST/api/stop",
    "api.list_cameras": "HOST/api/cameras",
    "api.change_camera": """-X PATCH HOST/api/cameras/$SERIAL -d '{"label": "left"}'""",
    "api.test_devices": "HOST/api/selftest",
    "api.list_recordings": "HOST/api/recordings",
    "api.get_recording": "HOST/api/recordings/$ID",
    "api.change_recording": """-X PATCH HOST/api/recordings/$ID -d '{"note": "rain at the end"}'""",
    "api.trash_recording": "-u edencar:$PIN -X DELETE HOST/api/recordings/$ID",
    "api.restore_recording": "-u edencar:$PIN -X POST HOST/api/recordings/$ID/restore",
    "api.send_recorded_file": "-u edencar:$PIN -O -C - HOST/api/recordings/$ID/files/recording.json",
    "api.download_recording": "-u edencar:$PIN -o $ID.zip -C - HOST/api/recordings/$ID/download",
    "api.list_photos": "HOST/api/recordings/$ID/photos",
    "api.show_track": "HOST/api/recordings/$ID/track",
    "api.process": """-X POST HOST/api/recordings/$ID/process -d '{"every": "5m"}'""",
    "api.geotag": "-X POST HOST/api/recordings/$ID/geotag -F positions=@log.nmea",
    "api.list_jobs": "HOST/api/jobs",
    "api.show_metrics": "HOST/metrics",
    "api.show_health": "HOST/healthz",
}
