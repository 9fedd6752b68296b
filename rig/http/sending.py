"""Files as answers: from any byte on, told apart from our own pages; of those that take long only so many at once."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from flask import Response, request, send_file
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable, ServiceUnavailable

MIME_TYPES = {".ts": "video/mp2t", ".nmea": "text/plain", ".idx": "text/plain", ".log": "text/plain"}
FILE_POLICY = (  # a report may draw itself, but is no page of ours: it has an origin of its own and asks nothing
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data:;"
    " sandbox allow-scripts"
)


class Places:
    """So many answers of a kind at once. Safe to use from several threads."""

    def __init__(self, kind: str, count: int, retry_after_s: int) -> None:
        self._kind, self._retry_after_s = kind, retry_after_s
        self._free = threading.BoundedSemaphore(count)

    def hold(self, response: Response) -> Response:
        """Hold a place until a response is closed, however that happens. Raises ServiceUnavailable."""
        if not self._free.acquire(blocking=False):
            response.close()
            raise ServiceUnavailable(f"all places for {self._kind} are taken", retry_after=self._retry_after_s)
        response.call_on_close(self._free.release)
        return response


def send_resumable(size: int, etag: str, read: Callable[[int, int], Iterable[bytes]], name: str) -> Response:
    """A ZIP of `size` bytes, or the range of it that was asked for, as `read` gives it from a byte up to another.

    Raises RequestedRangeNotSatisfiable.
    """
    _forget_long_suffix(size)
    begin, end, status = 0, size, 200
    wanted = request.range if request.if_range.etag in (None, etag) and not request.if_range.date else None
    if wanted is not None:
        if (part := wanted.range_for_length(size)) is None:
            raise RequestedRangeNotSatisfiable(size)
        (begin, end), status = part, 206
    response = Response(read(begin, end), status, mimetype="application/zip")
    response.content_length = end - begin
    response.accept_ranges = "bytes"
    response.set_etag(etag)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if status == 206:
        response.content_range.set(begin, end, size)
    return response


def send_stored(file: Path) -> Response:
    """A recorded file, or the range of it that was asked for; ?download has browsers save it.

    Raises RequestedRangeNotSatisfiable, PreconditionFailed.
    """
    _forget_long_suffix(file.stat().st_size)
    mimetype = MIME_TYPES.get(file.suffix)
    response = _met(send_file(file, mimetype, as_attachment="download" in request.args, conditional=True, max_age=0))
    response.headers["Content-Security-Policy"] = FILE_POLICY
    if response.status_code == 206 and "wsgi.file_wrapper" in request.environ:
        _send_part(response, file)
    return response


def _send_part(response: Response, file: Path) -> None:
    """Have the server's one loop send a range, as it sends whole files: a slow phone must not hold up a thread."""
    response.close()
    part = file.open("rb")
    part.seek(response.content_range.start or 0)
    response.response = request.environ["wsgi.file_wrapper"](part)  # reads as much as Content-Length says


def send_picture(jpeg: bytes) -> Response:
    """A picture that changes only with what it was made from; a report, whose origin is its own, may show it.

    Raises PreconditionFailed.
    """
    headers = {"Cache-Control": "private, max-age=3600", "Cross-Origin-Resource-Policy": "cross-origin"}
    response = Response(jpeg, mimetype="image/jpeg", headers=headers)
    response.set_etag(hashlib.sha256(jpeg).hexdigest()[:32])
    return _met(cast(Response, response.make_conditional(request)))


def _forget_long_suffix(size: int) -> None:
    """The last 64 KiB of a file that is shorter are all of it (RFC 9110, 14.1.2); werkzeug would refuse them."""
    suffix = re.fullmatch(r"bytes=\s*-(\d{1,18})\s*", request.environ.get("HTTP_RANGE", ""), re.ASCII)
    if suffix and int(suffix[1]) > size:
        del request.environ["HTTP_RANGE"]


def _met(response: Response) -> Response:
    """What does not fulfil If-Match as an error: werkzeug sends the file under that status."""
    if response.status_code == 412:
        response.close()
        raise PreconditionFailed
    return response
