"""The steps of one recording where they run: fetch what is needed, work, put the results where they belong.

Whatever another client of the same work has done meanwhile is taken as it is.
"""

import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from rig.cluster import store
from rig.cluster.planning import FOLDER, Order, key_of
from rig.cluster.steps import Place, Plan, Share
from rig.cluster.store import Entry
from rig.drive import checksums
from rig.errors import EdencarError, NoSpaceError, UnreadableError
from rig.files import is_full
from rig.photo.photos import TABLE_NAME

# Of another machine, or of another container that shares this folder, the number of a process says nothing here.
SCRATCH = f"edencar-{re.sub(r'[^A-Za-z0-9]', '_', socket.gethostname())}-"

FILES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step gave nothing: doing it again would not help."""

    message: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be done, and the names of the shares that an earlier run has done."""

    plan: Plan
    done: frozenset[str]


Summary = dict[str, Any]  # what a person and the overview want to know of a recording


def prepare(order: Order) -> Prepared | Summary | Failure:
    """Look at the recording; its summary when another client has done all meanwhile."""
    try:
        if (known := _done(order)) is not None:
            return known
        files = store.listing(order.url)
        with _place(order, files, order.steps.needs(list(files))) as place:
            plan = order.steps.prepare(place)
        _forget(order)
        done = {name.removesuffix(".json") for name in store.listing(order.parts())}
        return Prepared(plan, frozenset(share.name for share in plan.shares if _flat(share.name) in done))
    except EdencarError as error:
        return Failure(_told(order, error))


def make(order: Order, share: Share) -> Failure | None:
    """Do one share: its files first, then the note that it is done."""
    try:
        names = {share.file: Entry(share.size, "")}
        if (seal := store.size_of(store.join(order.url, checksums.NAME))) is not None:
            names[checksums.NAME] = Entry(seal, "")
        with _place(order, names, [share.file]) as place:
            lines = order.steps.make(share, place)
            _put_all(place.output, order.output)
        note = json.dumps({"share": share.name, "lines": lines})
        store.write(note.encode(), store.join(order.parts(), f"{_flat(share.name)}.json"))
        return None
    except EdencarError as error:
        return Failure(_told(order, error))


def finish(order: Order, head: Any, shares: Sequence[str]) -> Summary | Failure:
    """Put all together; the marker comes last, and not where something failed: then it is to be done again."""
    try:
        notes = [store.join(order.parts(), f"{_flat(name)}.json") for name in shares]
        try:
            lines = [line for note in store.each(store.read, notes) for line in json.loads(note)["lines"]]
        except UnreadableError:
            if (known := _done(order)) is not None:
                store.remove_folder(order.parts())
                return known
            raise
        files = store.listing(order.url)
        kept = [] if order.is_own else order.steps.keeps(list(files))
        there = tuple(f"photos/{name}" for name in store.listing(store.join(order.output, "photos")))
        with _place(order, files, sorted({*order.steps.needs_at_end(list(files)), *kept}), there) as place:
            result = order.steps.finish(head, lines, place)
            for name in kept:
                store.put(place.folder / name, store.join(order.output, name))
            _put_all(place.output, order.output)
        store.remove(store.join(order.output, name) for name in result.gone)
        summary = {**result.summary, "recording": order.url, "output": order.output, "way": result.way}
        if not summary.get("failed"):
            key = ""
            if order.is_own:  # then the work may have changed what it depends on
                key = key_of(order.name, store.listing(order.output), order.steps, order.wishes)
            store.write(json.dumps(summary, default=str).encode(), order.marker(key))
        store.remove_folder(order.parts())
        return summary
    except EdencarError as error:
        return Failure(_told(order, error))


@cache
def fingerprint() -> str:
    """Of the program itself: all machines must run the same one. A worker says what it began with: that it runs."""
    root = Path(__file__).parents[2]
    files = sorted([*root.glob("*.py"), *(root / "rig").rglob("*.py")])
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _done(order: Order) -> Summary | None:
    """What the marker says, while the results are there."""
    if not (store.exists(order.marker()) and store.exists(store.join(order.output, TABLE_NAME))):
        return None
    known: Summary = json.loads(store.read(order.marker()))
    return known


def _forget(order: Order) -> None:
    """Other work on this recording counts no longer: its photos are about to be replaced."""
    folder = store.join(order.root, FOLDER)
    names = store.listing(folder, deep=False)
    ours = re.compile(re.escape(order.label) + r"-[0-9a-f]+\.json")
    store.remove(store.join(folder, name) for name in names if ours.fullmatch(name))


def _flat(name: str) -> str:
    return name.replace("/", "_")


def _told(order: Order, error: EdencarError) -> str:
    text = str(error)
    return text if order.url in text else f"{order.url}: {text}"


@contextmanager
def _place(
    order: Order, files: Mapping[str, Entry], names: Sequence[str], there: tuple[str, ...] = ()
) -> Iterator[Place]:
    """A folder for one step, with those files of the recording; it is gone afterwards."""
    name = order.url.rpartition("/")[2]
    with _scratch() as scratch:
        place = Place(
            url=order.url,
            folder=store.local(order.url) or scratch / "recording" / name,
            output=scratch / "output" / name,
            luggage=scratch / "luggage",
            is_own=order.is_own,
            there=there,
        )
        place.output.mkdir(parents=True)
        place.luggage.mkdir()
        try:
            for packed, size in order.packed:
                store.fetch(store.join(order.packed_at(), packed), place.luggage / packed, size)
            if place.folder.is_relative_to(scratch):
                place.folder.mkdir(parents=True)
                _fetch(order.url, files, names, place.folder)
        except NoSpaceError as error:
            raise _no_room() from error
        try:
            yield place
        except EdencarError as error:
            raise type(error)(place.told(error.message), cure=place.told(error.cure)) from error


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that is gone afterwards. Raises EdencarError also for what the disk does not do meanwhile."""
    _sweep()
    try:
        with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-", ignore_cleanup_errors=True) as name:
            yield Path(name)
    except EdencarError:
        raise
    except OSError as error:
        if is_full(error):
            raise _no_room() from error
        where = tempfile.gettempdir()
        raise UnreadableError(f"{where} cannot be used ({error})", cure="look at the disk, or set TMPDIR") from error


def _no_room() -> NoSpaceError:
    return NoSpaceError(f"no room in {tempfile.gettempdir()}", cure="make room, or set TMPDIR")


def _fetch(url: str, files: Mapping[str, Entry], names: Sequence[str], folder: Path) -> None:
    """Copy files, and check those that have a checksum. Raises EdencarError."""
    sums = {}
    if checksums.NAME in files:
        store.fetch(store.join(url, checksums.NAME), folder / checksums.NAME, files[checksums.NAME].size)
        sums = checksums.read(folder)

    def fetch(name: str) -> None:
        store.fetch(store.join(url, name), folder / name, files[name].size)
        if name in sums and checksums.sum_of(folder / name) != sums[name]:
            raise UnreadableError(f"{url}/{name} is not what was recorded", cure="upload it again")

    store.each(fetch, names, FILES_AT_ONCE)


def _put_all(folder: Path, url: str) -> None:
    """All files of a folder, tables after the photos that they tell of."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    photos = {name for name in files if name.startswith("photos/")}
    last = files & {TABLE_NAME}
    for names in (photos, files - photos - last, last):
        store.each(lambda name: store.put(folder / name, store.join(url, name)), sorted(names), FILES_AT_ONCE)


def _sweep() -> None:
    """Take away what processes left that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*-*"):
        number = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
