"""Client of the blob service: containers, shared access signatures, and downloads of folders."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import os
import re
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree

import httpx

from azureml_local.exceptions import DeploymentError
from azureml_local.runtime.azurite import ACCOUNT, DATASTORE_ACCOUNT

# The version whose string-to-sign is built below:
# https://learn.microsoft.com/rest/api/storageservices/create-service-sas and .../create-account-sas
SAS_VERSION = "2022-11-02"
SAS_LIFETIME = dt.timedelta(hours=8)
# The two that every workspace has: for data, and for what jobs write into ./outputs and their logs.
DATASTORE_CONTAINERS = {"workspaceblobstore": "azureml-blobstore", "workspaceartifactstore": "azureml"}
# Up to the first a blob is put by one request; beyond, in blocks of the second. An append block holds 4 MiB at most:
# https://learn.microsoft.com/rest/api/storageservices/append-block
LARGEST_PUT_BYTES = 64 << 20
BLOCK_BYTES = 32 << 20
APPEND_BYTES = 4 << 20
AZUREML_URI = re.compile(r"azureml://(?:.*/)?datastores/(?P<datastore>[^/]+)/paths/(?P<path>.+)")


FILE_NOT_READ = "FileNotRead"
MOST_NAMED = 3


@dataclass(frozen=True)
class BlobPlace:
    """A blob, or a folder of blobs."""

    account: str
    container: str
    path: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


def place_of(uri: str) -> BlobPlace:
    """Find out what a code's or model's URI names; raises DeploymentError."""
    match = AZUREML_URI.fullmatch(uri)
    if match:
        container = DATASTORE_CONTAINERS.get(match["datastore"].lower())
        if container is None:
            raise DeploymentError("DatastoreNotFound", f"{uri}: there is no datastore named {match['datastore']}")
        return BlobPlace(DATASTORE_ACCOUNT, container, match["path"].strip("/"))
    account, _, rest = unquote(urlsplit(uri).path).strip("/").partition("/")
    container, _, path = rest.partition("/")
    if account not in (ACCOUNT, DATASTORE_ACCOUNT) or not container or not path:
        raise DeploymentError("InvalidAssetUri", f"{uri}: not in the local blob service")
    return BlobPlace(account, container, path.strip("/"))


def _sign(key: str, parts: list[str]) -> str:
    digest = hmac.new(base64.b64decode(key), "\n".join(parts).encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def _expiry() -> str:
    return (dt.datetime.now(dt.timezone.utc) + SAS_LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ")


def container_sas(key: str, account: str, container: str, permissions: str = "racwdl") -> str:
    """Return a service SAS for one container."""
    expiry = _expiry()
    resource = f"/blob/{account}/{container}"
    signature = _sign(
        key, [permissions, "", expiry, resource, "", "", "", SAS_VERSION, "c", "", "", "", "", "", "", ""]
    )
    fields = {"sp": permissions, "se": expiry, "sv": SAS_VERSION, "sr": "c", "sig": signature}
    return urlencode(fields)


def account_sas(key: str, account: str) -> str:
    """Return an account SAS with which containers can be made."""
    permissions, services, types, expiry = "rwlac", "b", "sco", _expiry()
    signature = _sign(key, [account, permissions, services, types, "", expiry, "", "", SAS_VERSION, "", ""])
    fields = {"sp": permissions, "ss": services, "srt": types, "se": expiry, "sv": SAS_VERSION, "sig": signature}
    return urlencode(fields)


@contextlib.contextmanager
def _answering(what: str) -> Iterator[None]:
    """Turn a blob service that does not answer into a DeploymentError."""
    try:
        yield
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise DeploymentError("BlobServiceError", f"{what}: the blob service does not answer: {reason}") from error


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn a file that cannot be read, or named, into a DeploymentError: a container may give it any name and mode."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a name that is not UTF-8"
        raise DeploymentError(FILE_NOT_READ, f"{printable(path.name)}: {reason}") from error


def printable(name: str) -> str:
    """Return a file's name as it can be written in UTF-8, whatever its bytes are."""
    return name.encode("utf-8", "backslashreplace").decode()


class Blobs:
    """The blob service, spoken to with its account key."""

    def __init__(self, port: int, storage_key: str, ca: Path) -> None:
        self.root = f"https://127.0.0.1:{port}"
        self._key = storage_key
        # trust_env would send loopback through the shell's proxy.
        self._client = httpx.Client(verify=ssl.create_default_context(cafile=str(ca)), trust_env=False, timeout=60)

    def make_container(self, account: str, container: str) -> None:
        """Create a container; one that exists is left as it is."""
        url = f"{self.root}/{account}/{container}?restype=container&{account_sas(self._key, account)}"
        with _answering(container):
            answer = self._client.put(url, headers={"x-ms-version": SAS_VERSION})
        if answer.status_code not in (201, 409):
            raise DeploymentError(
                "BlobServiceError", f"container {container}: {answer.status_code} {answer.text[:200]}"
            )

    def sas(self, account: str, container: str, permissions: str = "racwdl") -> str:
        """Return a container SAS to hand out."""
        return container_sas(self._key, account, container, permissions)

    def readable_url(self, place: BlobPlace) -> str:
        """Return a URL with which anybody can read a blob."""
        return f"{self.root}/{place.account}/{place.container}/{quote(place.path)}?" + self.sas(
            place.account, place.container, "r"
        )

    def exists(self, place: BlobPlace) -> bool:
        """Say whether there is a blob, or a folder with blobs, of this name."""
        return bool(self._names(place))

    def upload(self, source: Path, place: BlobPlace) -> int:
        """Upload a file, or a folder with all below it, to a place of that name; return the number of files.

        Links are followed inside the folder alone: a container may have made them, and would have this machine's files.
        """
        if source.is_symlink():
            return 0
        if not source.is_dir():
            self._put_file(source, place)
            return 1
        inside = source.resolve()
        count = 0
        unreadable: list[str] = []

        def note(error: OSError) -> None:
            unreadable.append(f"{printable(Path(error.filename).name)}: {error.strerror}")

        for path in sorted(Path(folder) / name for folder, _, names in os.walk(source, onerror=note) for name in names):
            name = f"{place.path}/{path.relative_to(source).as_posix()}"
            try:
                with _reading(path):
                    is_inside = path.is_file() and path.resolve().is_relative_to(inside)
                if is_inside:
                    self._put_file(path, BlobPlace(place.account, place.container, name))
                    count += 1
            except DeploymentError as error:
                # The others of the folder go up all the same; when the service itself fails, nothing would.
                if error.code != FILE_NOT_READ:
                    raise
                unreadable.append(error.message)
        if unreadable:
            more = f" (and {len(unreadable) - MOST_NAMED} more)" if len(unreadable) > MOST_NAMED else ""
            raise DeploymentError(FILE_NOT_READ, f"{'; '.join(unreadable[:MOST_NAMED])}{more}")
        return count

    def _put_file(self, source: Path, place: BlobPlace) -> None:
        with _reading(source):
            self._put_content(source, place)

    def _put_content(self, source: Path, place: BlobPlace) -> None:
        size = source.stat().st_size
        with source.open("rb") as stream:
            if size <= LARGEST_PUT_BYTES:
                self._put(place, stream.read(), {"x-ms-blob-type": "BlockBlob"})
                return
            ids: list[str] = []
            while block := stream.read(BLOCK_BYTES):
                ids.append(base64.b64encode(f"{len(ids):08d}".encode()).decode())
                self._put(place, block, {}, {"comp": "block", "blockid": ids[-1]})
        listed = "".join(f"<Latest>{entry}</Latest>" for entry in ids)
        self._put(place, f"<BlockList>{listed}</BlockList>".encode(), {}, {"comp": "blocklist"})

    def write(self, place: BlobPlace, content: bytes) -> None:
        """Put a blob with this content."""
        self._put(place, content, {"x-ms-blob-type": "BlockBlob"})

    def begin_log(self, place: BlobPlace) -> None:
        """Make an empty blob that lines can be appended to; what was there is gone."""
        self._put(place, b"", {"x-ms-blob-type": "AppendBlob"})

    def append(self, place: BlobPlace, content: bytes) -> None:
        """Append to a blob that begin_log has made."""
        for start in range(0, len(content), APPEND_BYTES):
            self._put(place, content[start : start + APPEND_BYTES], {}, {"comp": "appendblock"})

    def _put(
        self, place: BlobPlace, content: bytes, headers: dict[str, str], query: dict[str, str] | None = None
    ) -> None:
        words = f"{urlencode(query)}&" if query else ""
        url = f"{self.root}/{place.account}/{place.container}/{quote(place.path)}?{words}"
        with _answering(place.path):
            answer = self._client.put(
                url + account_sas(self._key, place.account),
                content=content,
                headers={"x-ms-version": SAS_VERSION, **headers},
            )
        if answer.status_code != 201:
            raise DeploymentError(
                "BlobServiceError", f"{place.path}: {answer.status_code} {answer.text[:200]}".rstrip()
            )

    def download(self, place: BlobPlace, folder: Path) -> int:
        """Download a blob, or a folder with all below it, to `folder`/NAME; return the number of files."""
        return self.fetch(place, folder / place.name)

    def fetch(self, place: BlobPlace, destination: Path) -> int:
        """Download a blob, or all below a folder, as `destination`; return the number of files."""
        names = self._names(place)
        if not names:
            raise DeploymentError("BlobNotFound", f"{place.container}/{place.path}: there is nothing there")
        for name in names:
            relative = name[len(place.path) :].lstrip("/")
            target = destination / relative if relative else destination
            if not target.resolve().is_relative_to(destination.resolve()):
                raise DeploymentError("InvalidBlobName", f"{name}: leads out of its folder")
            try:
                with _answering(name):
                    self._get(place, name, target)
            except OSError as error:
                raise DeploymentError("FileNotWritten", f"{name}: {error.strerror}") from error
        return len(names)

    def _get(self, place: BlobPlace, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        url = f"{self.root}/{place.account}/{place.container}/{quote(name)}?{account_sas(self._key, place.account)}"
        with self._client.stream("GET", url, headers={"x-ms-version": SAS_VERSION}) as answer:
            if answer.status_code != 200:
                raise DeploymentError("BlobServiceError", f"{name}: the blob service answers {answer.status_code}")
            with target.open("wb") as stream:
                for chunk in answer.iter_bytes(1 << 20):
                    stream.write(chunk)

    def _names(self, place: BlobPlace) -> list[str]:
        names: list[str] = []
        marker = ""
        while True:
            query = urlencode({"restype": "container", "comp": "list", "prefix": place.path, "marker": marker})
            url = f"{self.root}/{place.account}/{place.container}?{query}&{account_sas(self._key, place.account)}"
            with _answering(place.path):
                answer = self._client.get(url, headers={"x-ms-version": SAS_VERSION})
            if answer.status_code != 200:
                raise DeploymentError(
                    "BlobServiceError", f"{place.container}: the blob service answers {answer.status_code}"
                )
            # The answer comes from our own Azurite, over TLS checked against our own authority.
            listing = ElementTree.fromstring(answer.content)
            names += [element.text or "" for element in listing.iterfind("./Blobs/Blob/Name")]
            marker = listing.findtext("NextMarker") or ""
            if not marker:
                # The prefix also finds neighbours, such as "model-2/..." beside "model/...".
                return [name for name in names if name == place.path or name.startswith(f"{place.path}/")]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def discard(path: Path) -> None:
    """Remove a file or a folder that is no longer used, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
