"""Keys and region of the files that the tools of AWS share, `~/.aws/credentials` and `~/.aws/config`.

The storage library reads no files. It finds AWS_ACCESS_KEY_ID and the like, web identities, and the credentials of
containers and machines. Where the environment has keys, an identity or a container, the files are not read, as the
tools of AWS do.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from refold.errors import FixInput

_OTHERS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


def profile_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What the chosen profile (AWS_PROFILE, else `default`) adds to the settings of the environment.

    Raises FixInput where a profile was chosen that is not there, or that has no keys (SSO, a role, a process).
    """
    if any(environ.get(name) for name in _OTHERS):
        return {}
    chosen = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    name = chosen or "default"
    home = Path(environ.get("HOME", "~")).expanduser() / ".aws"
    files = [
        Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"),
        Path(environ.get("AWS_CONFIG_FILE") or home / "config"),
    ]
    found = {**_section(files[1], name if name == "default" else f"profile {name}"), **_section(files[0], name)}
    settings = {key: found[key] for key in _KEYS if key in found}
    if "region" in found and not (environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")):
        settings["aws_region"] = found["region"]
    if chosen and not {"aws_access_key_id", "aws_secret_access_key"} <= settings.keys():
        what = "another way to sign in" if found else "no such profile"
        raise FixInput(
            f"Expected keys of the profile {chosen!r} in {files[0]} or {files[1]}, found {what}.",
            remedy="Correct AWS_PROFILE, or give its keys: "
            f'eval "$(aws configure export-credentials --profile {chosen} --format env)".',
        )
    return settings


def _section(file: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise FixInput(f"Expected settings of AWS in {file}, found: {error}.", remedy="Mend that file.") from error
    return dict(parser[name]) if parser.has_section(name) else {}
