"""Errors of the storage library and the system as errors of Refold: what failed, why, and what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, ParamSpec, TypeVar

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

P = ParamSpec("P")
T = TypeVar("T")
_CUT_ANSWERS_MAX = 5
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
    answered = _answered(error)
    if answered is not None:
        kind, why, remedy, found = answered
    else:
        found = _first_line(error)
        kind, why, remedy = _judged(error, found, opening)
    return kind(f"{failed}: {why}: {found}", remedy=remedy)


class _Cause(NamedTuple):
    """What a remote store refuses for good, by the codes of its answers."""

    codes: tuple[str, ...]
    kind: type[RefoldError]
    why: str
    remedy: str


_ANSWER = re.compile(r"(?s)<Code>(\w+)</Code>.*?<Message>(.*?)</Message>")
_REGION = re.compile(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'|\.s3[.-]([a-z]{2}-[a-z]+-\d)\.")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_CAUSES = (
    _Cause(_NO_BUCKET, FixInput, "the bucket does not exist", "Check the name of the bucket in the URL."),
    _Cause(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
        FixInput,
        "the bucket is in another region",
        "Set AWS_REGION to the region of the bucket{region}.",
    ),
    _Cause(
        ("RequestTimeTooSkewed",),
        FixInput,
        "the clock of this machine differs too much from that of the store",
        "Set the clock of this machine.",
    ),
    _Cause(
        ("ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException"),
        AccessDenied,
        "access denied, since the credentials have expired",
        "Sign in again, or give the process credentials that it can renew by itself.",
    ),
    _Cause(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed"),
        AccessDenied,
        "access denied, since the store does not accept the credentials",
        "Check credentials and permissions: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or where they come from.",
    ),
    _Cause(
        ("AccessDenied", "AllAccessDisabled", "AuthorizationFailure", "AuthorizationPermissionMismatch"),
        AccessDenied,
        "access denied, since a right is missing",
        "Check credentials and permissions: reading, writing, deleting and listing objects of the bucket.",
    ),
)


def _answered(error: Exception) -> tuple[type[RefoldError], str, str, str] | None:
    """Kind, reason, remedy and the store's own words, where it says why it refuses; None for anything else."""
    text = str(error)
    answer = _ANSWER.search(text)
    code, said = (answer[1], answer[2]) if answer else ("", "")
    if "redirect without LOCATION" in text:
        code, said = "PermanentRedirect", "it answers with a redirect and names no place"
    cause = next((each for each in _CAUSES if code in each.codes), None)
    if cause is None:
        return None
    region = next((name for found in _REGION.finditer(text) for name in found.groups() if name), None)
    remedy = cause.remedy.format(region=f", {region}" if region else "")
    said = printable(" ".join(said.split()))
    return cause.kind, cause.why, remedy, f"{code}, {mask_urls(said)[:400].rstrip(' .')}."


def is_bucket_missing(error: Exception) -> bool:
    """Whether not an object, but the whole bucket is missing."""
    answer = _ANSWER.search(str(error))
    return answer is not None and answer[1] in _NO_BUCKET


def _judged(error: Exception, found: str, opening: bool) -> tuple[type[RefoldError], str, str]:
    """The kind of error, what is wrong, and the remedy."""
    local = isinstance(error, OSError) or "LocalFileSystem" in found
    code = system_error(error)
    judged: tuple[type[RefoldError], str, str]
    if isinstance(error, _MISNAMED) and not opening:
        expected = "expected a name in UTF-8 without control characters and without //, /./ or /../, found"
        judged = FixInput, expected, "Rename the object."
    elif isinstance(error, _FORBIDDEN) or "status code: 403" in found or (local and code in DENIED):
        judged = AccessDenied, "access denied", "Check credentials and permissions."
    elif isinstance(error, _REFUSED):
        judged = FixInput, "this store does not support it", "Use a local folder, s3://, gs:// or az://."
    elif isinstance(error, MISSING) or "status code: 404" in found:  # the library has no kind of its own for listings
        judged = FixInput, "it does not exist", "Check the path, or the name of the bucket."
    elif local and code in _PASSING:
        judged = Unavailable, "the file system is unavailable", "Try again once it works."
    elif local:
        judged = FixInput, "expected a folder that can be used, found", "Check the path and its permissions."
    elif "HEAD" in found and "status code: 400" in found:  # an answer to HEAD has no words
        remedy = "Check region and credentials, which may have expired."
        judged = FixInput, "the store refuses the request", remedy
    elif opening:
        remedy = "Check the URL, and the settings of its kind of store (AWS_…, GOOGLE_…, AZURE_…)."
        judged = FixInput, "expected a local path, s3://, gs:// or az://, found", remedy
    else:
        judged = Unavailable, "the store is unavailable", "Check address, network and credentials, then try again."
    return judged


def whole(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a read of a remote store returns; asks again where an answer ends early, as the library alone does not."""
    for _ in range(_CUT_ANSWERS_MAX):
        try:
            return read(*args, **kwargs)
        except Unavailable as error:
            if "response body" not in str(error):
                raise
    return read(*args, **kwargs)


def _first_line(error: Exception) -> str:
    """The library's own first line, secrets masked; an invalid name is shown whole, with its line breaks escaped."""
    text = str(error).partition("\n\nDebug source:")[0]
    if isinstance(error, _MISNAMED):
        text = printable(text)
    first = (text.splitlines() or [type(error).__name__])[0].rstrip(" .")
    first = first.removesuffix('<?xml version="1.0" encoding="UTF-8"?>').rstrip(" :")
    return mask_urls(first)[:400] + "."


def mask_urls(text: str) -> str:
    """A text whose URLs show no secrets."""
    return re.sub(r"\S+://\S+", lambda url: mask_url(url[0]), text)


def system_error(error: BaseException) -> int | None:
    """The system's number for what went wrong; libraries in Rust give it in their text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\bos error (\d+)|\bOs \{ code: (\d+)", str(error))
    return int(found[1] or found[2]) if found else None
