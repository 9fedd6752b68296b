"""The steps of one recording where they run: fetch what is needed, work, put the results where they belong."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from rig.cluster import store
from rig.cluster.planning import Order, key_of
from rig.cluster.steps import Place, Plan, Share
from rig.drive import checksums
from rig.errors import EdencarError, UnreadableError

SCRATCH = "edencar-"  # and the number of its process


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step gave nothing: doing it again would not help."""

    message: str


def prepare(order: Order) -> tuple[Plan, frozenset[str]] | Failure:
    """What is to be done, and the names of the shares that an earlier run has done."""
    try:
        with _place(order, order.steps.needs(list(order.recording.files))) as place:
            plan = order.steps.prepare(place)
        done = {name.removesuffix(".json") for name in store.listing(order.parts())}
        names = frozenset(share.name for share in plan.shares if _flat(share.name) in done)
        return plan, names
    except EdencarError as error:
        return Failure(_told(order, error))


def make(order: Order, share: Share) -> Failure | None:
    """Do one share: its files first, then the note that it is done."""
    try:
        with _place(order, [share.file]) as place:
            lines = order.steps.make(share, place)
            _put_all(place.output, order.output)
        note = json.dumps({"share": share.name, "lines": lines})
        store.write(note.encode(), store.join(order.parts(), f"{_flat(share.name)}.json"))
        return None
    except EdencarError as error:
        return Failure(_told(order, error))


def finish(order: Order, head: Any, shares: Sequence[str]) -> dict[str, Any] | Failure:
    """Put all together; the marker comes last. What a person and the overview want to know of the recording."""
    try:
        names = list(order.recording.files)
        notes = [store.join(order.parts(), f"{_flat(name)}.json") for name in shares]
        lines = [line for note in store.read_all(notes) for line in json.loads(note)["lines"]]
        kept = [] if order.is_own else order.steps.keeps(names)
        there = tuple(f"photos/{name}" for name in store.listing(store.join(order.output, "photos")))
        with _place(order, sorted({*order.steps.needs_at_end(names), *kept}), there) as place:
            result = order.steps.finish(head, lines, place)
            for name in kept:
                store.put(place.folder / name, store.join(order.output, name))
            _put_all(place.output, order.output)
        store.remove(store.join(order.output, name) for name in result.gone)
        summary = {"recording": order.recording.url, "output": order.output, **result.summary, "way": result.way}
        key = ""
        if order.is_own:  # then the work may have changed what it depends on
            key = key_of(order.recording.name, store.listing(order.output), order.steps, order.luggage)
        store.write(json.dumps(summary, default=str).encode(), order.marker(key))
        store.remove_folder(order.parts())
        return summary
    except EdencarError as error:
        return Failure(_told(order, error))


def fingerprint() -> str:
    """Of the program itself: all machines must run the same one."""
    root = Path(__file__).parents[2]
    files = sorted([*root.glob("*.py"), *(root / "rig").rglob("*.py")])
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _flat(name: str) -> str:
    return name.replace("/", "_")


def _told(order: Order, error: EdencarError) -> str:
    text = str(error)
    return text if order.recording.url in text else f"{order.recording.url}: {text}"


@contextmanager
def _place(order: Order, names: Sequence[str], there: tuple[str, ...] = ()) -> Iterator[Place]:
    """A folder for one step, with those files of the recording; it is gone afterwards."""
    _sweep()
    scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-"))
    try:
        own = store.local(order.recording.url)
        name = order.recording.url.rpartition("/")[2]
        folder = own or scratch / "recording" / name
        place = Place(
            url=order.recording.url,
            folder=folder,
            output=scratch / "output" / name,
            luggage=scratch / "luggage",
            is_own=order.is_own,
            there=there,
        )
        place.output.mkdir(parents=True)
        for name, data in order.luggage:
            (place.luggage / name).parent.mkdir(parents=True, exist_ok=True)
            (place.luggage / name).write_bytes(data)
        place.luggage.mkdir(exist_ok=True)
        if own is None:
            place.folder.mkdir(parents=True)
            _fetch(order, names, place.folder)
        try:
            yield place
        except EdencarError as error:
            raise type(error)(place.told(error.message), cure=place.told(error.cure)) from error
    except OSError as error:
        if isinstance(error, EdencarError):
            raise
        raise UnreadableError(f"{scratch} cannot be used ({error})", cure="look at the machine's disk") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch(order: Order, names: Sequence[str], folder: Path) -> None:
    """Copy files, and check those that have a checksum. Raises EdencarError."""
    url, files = order.recording.url, order.recording.files
    sums = {}
    if checksums.NAME in files:
        store.fetch(store.join(url, checksums.NAME), folder / checksums.NAME, files[checksums.NAME].size)
        sums = checksums.read(folder)
    for name in names:
        store.fetch(store.join(url, name), folder / name, files[name].size)
        if name in sums and checksums.sum_of(folder / name) != sums[name]:
            raise UnreadableError(f"{url}/{name} is not what was recorded", cure="upload it again")


def _put_all(folder: Path, url: str) -> None:
    """All files of a folder, tables after the photos that they tell of."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for name in sorted(files, key=lambda name: (not name.startswith("photos/"), name == "photos.csv", name)):
        store.put(folder / name, store.join(url, name))


def _sweep() -> None:
    """Take away what processes left that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*-*"):
        number = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
