"""Errors of the storage library and the system as errors of Refold: what failed, why, and what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from refold.base.outside import printable
from refold.errors import AccessDenied, FixInput, RefoldError, Unavailable
from refold.storage.urls import mask_url

_MISNAMED = (InvalidPathError, ValueError)
MISSING = (NotFoundError, FileNotFoundError)
_REFUSED = (NotSupportedError, NotImplementedError, UnknownConfigurationKeyError)
_FORBIDDEN = (PermissionDeniedError, UnauthenticatedError, PermissionError)
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EDQUOT,
    errno.EINTR,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


@contextmanager
def explained(failed: str, *, opening: bool = False) -> Iterator[None]:
    """Turn errors of the storage library and the system into Refold errors whose message begins with what failed.

    They have no cause, because its text may show the whole URL and a page of the library's internals.
    """
    try:
        yield
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        raise _explanation(error, failed, opening) from None


def _explanation(error: Exception, failed: str, opening: bool) -> RefoldError:
    found = _first_line(error)
    kind, why, remedy = _judged(error, found, opening)
    return kind(f"{failed}: {why}: {found}", remedy=remedy)


def _judged(error: Exception, found: str, opening: bool) -> tuple[type[RefoldError], str, str]:
    """The kind of error, what is wrong, and the remedy."""
    local = isinstance(error, OSError) or "LocalFileSystem" in found
    code = system_error(error)
    judged: tuple[type[RefoldError], str, str]
    if isinstance(error, _MISNAMED) and not opening:
        expected = "expected a name in UTF-8 without control characters and without //, /./ or /../, found"
        judged = FixInput, expected, "Rename the object."
    elif isinstance(error, _FORBIDDEN) or (local and code in DENIED):
        judged = AccessDenied, "access denied", "Check credentials and permissions."
    elif isinstance(error, _REFUSED):
        judged = FixInput, "this store does not support it", "Use a local folder, s3://, gs:// or az://."
    elif isinstance(error, MISSING) or "status code: 404" in found:  # the library has no kind of its own for listings
        judged = FixInput, "it does not exist", "Check the path, or the name of the bucket."
    elif local and code in _PASSING:
        judged = Unavailable, "the file system is unavailable", "Try again once it works."
    elif local:
        judged = FixInput, "expected a folder that can be used, found", "Check the path and its permissions."
    elif opening:
        remedy = "Check the URL, and the settings of its kind of store (AWS_…, GOOGLE_…, AZURE_…)."
        judged = FixInput, "expected a local path, s3://, gs:// or az://, found", remedy
    else:
        judged = Unavailable, "the store is unavailable", "Check address, network and credentials, then try again."
    return judged


def _first_line(error: Exception) -> str:
    """The library's own first line, secrets masked; an invalid name is shown whole, with its line breaks escaped."""
    text = str(error).partition("\n\nDebug source:")[0]
    if isinstance(error, _MISNAMED):
        text = printable(text)
    first = (text.splitlines() or [type(error).__name__])[0].rstrip(" .")
    return re.sub(r"\S+://\S+", lambda url: mask_url(url[0]), first)[:400] + "."


def system_error(error: BaseException) -> int | None:
    """The system's number for what went wrong; libraries in Rust give it in their text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\bos error (\d+)|\bOs \{ code: (\d+)", str(error))
    return int(found[1] or found[2]) if found else None
