"""Which recordings there are behind addresses with wildcards, and which of them are done already."""

import fnmatch
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rig.cluster import store
from rig.cluster.steps import Steps
from rig.cluster.store import Entry
from rig.errors import UsageError
from rig.photo.photos import TABLE_NAME

FOLDER = "fleet"  # beside the results: what was done, and what of it already
PARTS, LUGGAGE = "parts", "luggage"
WILD = re.compile(r"[*?\[]")
KEY_LENGTH = 20

Luggage = Mapping[str, bytes]  # small files that come along from where the work is ordered, by name


@dataclass(frozen=True, slots=True)
class Order:
    """All that a process needs to know for any step on one recording; small, as it goes along with each."""

    url: str  # of the recording
    name: str  # of the recording, below the part of its address without wildcards
    size: int  # bytes of all that the result depends on
    output: str  # where its results go
    root: str  # holds FOLDER
    key: str  # of this work on these very files
    steps: Steps
    wishes: str  # of the command that ordered it: a part of the key
    packed: tuple[tuple[str, int], ...]  # luggage: names and sizes
    trip: str  # whose luggage it is: that of another client differs, and is gone when that one ends

    @property
    def is_own(self) -> bool:
        """Whether the results go into the recording itself."""
        return self.output == self.url

    @property
    def label(self) -> str:
        """What its notes are called: of all keys."""
        return f"{self.steps.kind}-{self.name.replace('/', '_')}"

    def marker(self, key: str = "") -> str:
        """What says in the end that this work is done, under its own key or that of files as they have become."""
        return store.join(self.root, FOLDER, f"{self.label}-{key or self.key}.json")

    def parts(self) -> str:
        """Where notes lie of shares that are done while others are not."""
        return store.join(self.root, FOLDER, PARTS, self.key)

    def packed_at(self) -> str:
        """Where the luggage lies."""
        return store.join(self.root, FOLDER, LUGGAGE, self.trip)


def key_of(name: str, files: Mapping[str, Entry], steps: Steps, wishes: str) -> str:
    """The same for the same recording, files, wishes and settings."""
    inputs = [(path, files[path].size, files[path].stamp) for path in sorted(steps.inputs(list(files)))]
    return hashlib.sha256(repr((name, wishes, inputs)).encode()).hexdigest()[:KEY_LENGTH]


def find(sources: Sequence[str], output: str, steps: Steps, luggage: Luggage) -> list[Order]:
    """The work that there is, in the order of the recordings' names. Raises UsageError when there is none.

    Of the luggage, files in folders make it other work when they change; what is known of cameras does not: it grows.
    """
    given = [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(luggage.items()) if "/" in name]
    wishes = hashlib.sha256(repr((steps, given)).encode()).hexdigest()[:KEY_LENGTH]
    packed, trip = tuple((name, len(data)) for name, data in luggage.items()), secrets.token_hex(8)
    orders: dict[str, Order] = {}
    for source in sources:
        base = _base(source)
        for name, files in _recordings(source, base):
            inputs = steps.inputs(list(files))
            if not inputs:
                continue
            url = store.join(base, name)
            target = store.join(output, name) if output else url
            key = key_of(name, files, steps, wishes)
            size = sum(files[path].size for path in inputs)
            orders[url] = Order(url, name, size, target, output or base, key, steps, wishes, packed, trip)
    if not orders:
        raise UsageError(f"no recording matches {' '.join(sources)}", cure=f"look at the addresses: {steps.wanted}")
    targets = [order.output for order in orders.values()]
    if len(set(targets)) < len(targets):
        raise UsageError("two recordings would have the same results' folder", cure="name one source above both")
    return [orders[url] for url in sorted(orders)]


def without_done(orders: Sequence[Order]) -> tuple[list[Order], int]:
    """The orders that are left, and how many others are done and their results are there."""
    there: dict[str, set[str]] = {}
    for root in {order.root for order in orders}:
        folder = store.join(root, FOLDER)
        there[root] = {store.join(folder, name) for name in store.listing(folder, deep=False)}
    marked = [order for order in orders if order.marker() in there[order.root]]
    present = store.each(store.exists, (store.join(order.output, TABLE_NAME) for order in marked))
    done = {order.url for order, is_there in zip(marked, present, strict=True) if is_there}
    return [order for order in orders if order.url not in done], len(done)


def _base(source: str) -> str:
    """The part of an address without wildcards; above a recording that is named in full."""
    steps = source.rstrip("/").split("/")
    wild = next((number for number, step in enumerate(steps) if WILD.search(step)), len(steps) - 1)
    base = "/".join(steps[:wild])
    if base.endswith(":/") or (not base and store.is_url(source)):
        raise UsageError(f"{source} has no part without wildcards", cure="say for instance s3://bucket/cars/*")
    return base or ("/" if source.startswith("/") else ".")


def _recordings(source: str, base: str) -> Iterator[tuple[str, Mapping[str, Entry]]]:
    """The names of what matches below `base`, each with its files."""
    pattern = source.rstrip("/")[len(base) :].strip("/") if source.startswith(base) else source.rstrip("/")
    folder = store.local(base)
    return _in_store(base, pattern) if folder is None else _in_folder(base, folder, pattern)


def _in_folder(base: str, folder: Path, pattern: str) -> Iterator[tuple[str, Mapping[str, Entry]]]:
    """Names that match, links among them, and the files of each."""
    names = [path.relative_to(folder).as_posix() for path in folder.glob(pattern)]
    return zip(names, store.each(lambda name: store.listing(store.join(base, name)), names), strict=True)


def _in_store(base: str, pattern: str) -> Iterator[tuple[str, Mapping[str, Entry]]]:
    """Names that match, and the files of each: by whole folders, not by a request for each name."""
    depth = pattern.count("/") + 1
    found = _listing(base, pattern)
    deep = (name for name in sorted(found) if name.count("/") >= depth)
    for name, group in groupby(deep, lambda name: "/".join(name.split("/")[:depth])):
        if all(fnmatch.fnmatchcase(*pair) for pair in zip(name.split("/"), pattern.split("/"), strict=True)):
            yield name, {path[len(name) + 1 :]: found[path] for path in group}


def _listing(base: str, pattern: str) -> dict[str, Entry]:
    """All files below `base` that may belong to a match: folders above the recordings are listed side by side."""
    first, _, rest = pattern.partition("/")
    if not rest and WILD.search(first):
        return store.listing(base)
    folders = [name for name in store.folders(base) if fnmatch.fnmatchcase(name, first)]
    listings = store.each(lambda name: store.listing(store.join(base, name)), folders)
    return {
        f"{folder}/{name}": entry
        for folder, listing in zip(folders, listings, strict=True)
        for name, entry in listing.items()
    }
