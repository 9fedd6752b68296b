"""Files in any store that fsspec knows: S3 and the like, or folders. What fails on the way is tried again."""

import errno
import posixpath
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from rig.errors import DeviceError, EdencarError, NoSpaceError, UnreadableError, UsageError
from rig.files import is_full, sync_data, sync_folder

PAUSES_S = (0.5, 1.0, 2.0)  # after tries that have failed
PART_SUFFIX = ".part"
LASTING = (errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG)  # of folders: another try changes nothing
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}  # an object is there whole or not at all
AT_ONCE = 32  # small requests
OPTIONS: dict[str, dict[str, Any]] = {  # of stores: the tries here are enough
    "s3": {
        "config_kwargs": {
            "retries": {"max_attempts": 2, "mode": "standard"},
            "connect_timeout": 10,
            "read_timeout": 60,
        },
    }
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a store; `stamp` changes when its bytes do."""

    size: int
    stamp: str


def is_url(text: str) -> bool:
    """Whether it names a store rather than a folder."""
    return "://" in text


def join(url: str, *names: str) -> str:
    """An address below another one."""
    return posixpath.join(url.rstrip("/"), *names)


def each(do: Callable[[str], T], names: Iterable[str], at_once: int = AT_ONCE) -> list[T]:
    """`map`, side by side: a store far away takes its time for each. Raises what `do` raises."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(do, names))


def tried(what: str, do: Callable[[], T]) -> T:
    """The result of `do`, after as many tries as it takes. Raises an EdencarError that says what did not work."""
    pauses_s = iter(PAUSES_S)
    while True:
        try:
            return do()
        except EdencarError:
            raise
        except Exception as error:  # each store has errors of its own
            if isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "errno", None) in LASTING:
                raise UnreadableError(f"{what}: {_said(error)}", cure="check its name and who may use it") from error
            if "credentials" in type(error).__name__.lower():
                raise UsageError(f"{what}: {_said(error)}", cure="set AWS_ACCESS_KEY_ID or the like") from error
            pause_s = next(pauses_s, None)
            if pause_s is None or (isinstance(error, OSError) and is_full(error)):
                raise failed(what, error, f" ({len(PAUSES_S) + 1} tries)") from error
            time.sleep(pause_s)


def failed(what: str, error: Exception, tries: str = "") -> EdencarError:
    """That a disk is full, or what a store did not do."""
    if isinstance(error, OSError) and is_full(error):
        return NoSpaceError(f"{what}: {_said(error)}", cure="make room")
    return DeviceError(f"{what}: {_said(error)}{tries}", cure="run it again when the store answers")


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@lru_cache(maxsize=32)
def _filesystem(scheme: str) -> Any:
    try:
        # Without their cache: listings must not be of yesterday.
        return fsspec.filesystem(scheme, use_listings_cache=False, **OPTIONS.get(scheme, {}))
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"no store is called {scheme}:// ({_said(error)})", cure="install what fsspec asks for"
        ) from error
    except TypeError as error:  # ftp, sftp and the like, whose host and user are no part of a path
        raise UsageError(f"{scheme}:// is no store for this", cure="take a folder, or S3 and the like") from error


def opened(url: str) -> tuple[Any, str]:
    """The store and the path in it. Raises UsageError."""
    scheme, _, path = url.partition("://") if is_url(url) else ("file", "", str(Path(url).resolve()))
    return _filesystem(scheme), path.rstrip("/")


def local(url: str) -> Path | None:
    """The folder or file itself where it needs no copy."""
    store, path = opened(url)
    return Path(path) if isinstance(store, LocalFileSystem) else None


def _asked(url: str, ask: Callable[[Any, str], T], absent: T) -> T:
    """What a store says of an address, `absent` where nothing is there. Raises EdencarError."""
    store, path = opened(url)

    def do() -> T:
        try:
            return ask(store, path)
        except FileNotFoundError:
            return absent

    return tried(url, do)


def listing(url: str, *, deep: bool = True) -> dict[str, Entry]:
    """All files below an address, or only those in that very folder, by their names from there on."""

    def find(store: Any, root: str) -> dict[str, Entry]:
        found = store.find(root, maxdepth=None if deep else 1, detail=True)
        return {path[len(root) + 1 :]: _entry(values) for path, values in found.items() if path.startswith(root + "/")}

    return _asked(url, find, {})


def folders(url: str) -> list[str]:
    """The names of the folders right below an address."""

    def find(store: Any, root: str) -> list[str]:
        found = (values["name"] for values in store.ls(root, detail=True) if values["type"] == "directory")
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    return _asked(url, find, [])


def _entry(values: dict[str, Any]) -> Entry:
    stamp = values.get("ETag") or values.get("etag") or values.get("mtime") or values.get("created") or ""
    return Entry(int(values["size"] or 0), str(stamp))


def size_of(url: str) -> int | None:
    """The size of a file, None where there is none. Raises EdencarError."""
    return _asked(url, lambda store, path: int(store.info(path)["size"]), None)


def exists(url: str) -> bool:
    """Whether a file is there. Raises EdencarError."""
    return size_of(url) is not None


def fetch(url: str, target: Path, size: int) -> None:
    """Copy a file of a store; it is there whole or not at all. Raises EdencarError."""
    store, path = opened(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + PART_SUFFIX)

    def get() -> None:
        store.get_file(path, str(temporary))
        if temporary.stat().st_size != size:
            raise OSError(f"{temporary.stat().st_size} of {size} bytes came")

    tried(url, get)
    temporary.replace(target)


def chunks(url: str, size: int) -> Iterator[bytes]:
    """A file, piece by piece. Raises EdencarError."""
    store, path = opened(url)
    whole = int(tried(url, lambda: store.info(path))["size"])
    for begin in range(0, whole, size):
        yield bytes(tried(url, partial(store.cat_file, path, start=begin, end=min(whole, begin + size))))


def read(url: str) -> bytes:
    """A small file. Raises EdencarError."""
    store, path = opened(url)
    return tried(url, lambda: bytes(store.cat_file(path)))


def put(source: Path, url: str) -> None:
    """Copy a file into a store; it is there whole or not at all. Raises EdencarError."""
    _put(url, lambda store, path: store.put_file(str(source), path))


def write(data: bytes, url: str) -> None:
    """Write a small file, whole or not at all. Raises EdencarError."""
    _put(url, lambda store, path: store.pipe_file(path, data))


def _put(url: str, send: Callable[[Any, str], None]) -> None:
    store, path = opened(url)
    own = local(url)

    def do() -> None:
        if url.partition("://")[0] in OBJECT_STORES:
            send(store, path)
            return
        store.makedirs(posixpath.dirname(path), exist_ok=True)
        temporary = f"{path}.{secrets.token_hex(4)}{PART_SUFFIX}"  # another client may write the same
        try:
            send(store, temporary)
            if own:
                with Path(temporary).open("r+b") as file:
                    sync_data(file.fileno())
            store.mv(temporary, path)
        except BaseException:
            with suppress(Exception):  # of any store
                store.rm_file(temporary)
            raise
        if own:
            sync_folder(own.parent)

    tried(url, do)


def remove(urls: Iterable[str]) -> None:
    """Take files away; another try, or another client, may have done it. Raises EdencarError."""
    for url in urls:
        _asked(url, lambda store, path: store.rm_file(path), None)


def remove_folder(url: str) -> None:
    """Take away all that lies below an address. Raises EdencarError."""
    _asked(url, lambda store, path: store.rm(path, recursive=True), None)
