"""Answers that take long: only so many at once, and one of known length from any byte on."""

import threading
from collections.abc import Callable, Iterable

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable, ServiceUnavailable


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
