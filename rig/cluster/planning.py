"""Which recordings there are behind addresses with wildcards, and which of them are done already."""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from rig.cluster import store
from rig.cluster.steps import Steps
from rig.cluster.store import Entry
from rig.errors import UsageError

FOLDER = "fleet"  # beside the results: what was done, and what of it already
PARTS = "parts"
WILD = re.compile(r"[*?\[]")
KEY_LENGTH = 20

Luggage = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """Where it lies, what it is called below the part of its address without wildcards, and its files."""

    url: str
    name: str
    files: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Order:
    """All that a process needs to know for any step on one recording."""

    recording: Recording
    output: str  # where its results go
    root: str  # holds FOLDER
    key: str  # of this work on these very files
    steps: Steps
    luggage: Luggage = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of all that the result depends on."""
        files = self.recording.files
        return sum(files[name].size for name in self.steps.inputs(list(files)))

    @property
    def is_own(self) -> bool:
        """Whether the results go into the recording itself."""
        return self.output == self.recording.url

    def marker(self, key: str = "") -> str:
        """What says in the end that this work is done, under its own key or that of files as they have become."""
        flat = self.recording.name.replace("/", "_")
        return store.join(self.root, FOLDER, f"{self.steps.kind}-{flat}-{key or self.key}.json")

    def parts(self) -> str:
        """Where notes lie of shares that are done while others are not."""
        return store.join(self.root, FOLDER, PARTS, self.key)


def key_of(name: str, files: Mapping[str, Entry], steps: Steps, luggage: Luggage) -> str:
    """The same for the same recording, files, wishes and settings."""
    inputs = [(path, files[path].size, files[path].stamp) for path in sorted(steps.inputs(list(files)))]
    return hashlib.sha256(repr((name, steps, inputs, luggage)).encode()).hexdigest()[:KEY_LENGTH]


def find(sources: Iterable[str], output: str, steps: Steps, luggage: Luggage) -> list[Order]:
    """The work that there is, in the order of the recordings' names. Raises UsageError when there is none."""
    orders: dict[str, Order] = {}
    for source in sources:
        base = _base(source)
        for recording in _recordings(source, base, steps):
            target = store.join(output, recording.name) if output else recording.url
            key = key_of(recording.name, recording.files, steps, luggage)
            orders[recording.url] = Order(recording, target, output or base, key, steps, luggage)
    if not orders:
        raise UsageError(f"no recording matches {' '.join(sources)}", cure="look at the addresses")
    targets = [order.output for order in orders.values()]
    if len(set(targets)) < len(targets):
        raise UsageError("two recordings would have the same results' folder", cure="name one source above both")
    return [orders[url] for url in sorted(orders)]


def without_done(orders: Sequence[Order]) -> tuple[list[Order], list[str]]:
    """The orders that are left, and the markers of the others."""
    there: dict[str, set[str]] = {}
    for root in {order.root for order in orders}:
        folder = store.join(root, FOLDER)
        there[root] = {store.join(folder, name) for name in store.listing(folder)}
    left, done = [], []
    for order in orders:
        marker = order.marker()
        if marker in there[order.root]:
            done.append(marker)
        else:
            left.append(order)
    return left, done


def _base(source: str) -> str:
    """The part of an address without wildcards; above a recording that is named in full."""
    steps = source.rstrip("/").split("/")
    wild = next((number for number, step in enumerate(steps) if WILD.search(step)), len(steps) - 1)
    base = "/".join(steps[:wild])
    if base.endswith(":/") or (not base and store.is_url(source)):
        raise UsageError(f"{source} has no fixed part", cure="name at least the bucket")
    return base or ("/" if source.startswith("/") else ".")


def _recordings(source: str, base: str, steps: Steps) -> Iterable[Recording]:
    """Those below `base` that match, each with its files: one listing tells all of them."""
    pattern = source.rstrip("/")[len(base) :].strip("/") if source.startswith(base) else source.rstrip("/")
    depth = pattern.count("/") + 1
    fixed = "" if WILD.search(pattern) else pattern
    found = store.listing(store.join(base, fixed) if fixed else base)
    names = sorted(f"{fixed}/{name}" if fixed else name for name in found)
    deep = (name for name in names if name.count("/") >= depth)
    for name, group in groupby(deep, lambda name: "/".join(name.split("/")[:depth])):
        if all(fnmatch.fnmatchcase(*pair) for pair in zip(name.split("/"), pattern.split("/"), strict=True)):
            files = {path[len(name) + 1 :]: found[path[len(fixed) + 1 :] if fixed else path] for path in group}
            if steps.inputs(list(files)):
                yield Recording(store.join(base, name), name, files)
