"""Alerts: what `build_defs(on_failure=[…])` calls when a run fails, landing cannot be read, or rows were not proven.

An alert is any function of an `Alert`: `Slack`, `Webhook` and `Mail` send one, and a test takes `alerts.append`. Places
and passwords are read from the environment when an alert is sent, so that Dagster shows none.
"""

from __future__ import annotations

import json
import os
import smtplib
import ssl
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

import dagster as dg

from refold.base.outside import printable, printable_lines
from refold.errors import FixInput, RefoldError
from refold.storage.objects import sha256_hex

_SECONDS = 10.0
_SLACK_CHARACTERS = 3000
_CURSOR = "refold/alerted/landing"


@dataclass(frozen=True)
class Alert:
    """What somebody must know: `title` says what and where on one line, `text` why, and what to do."""

    title: str
    text: str


OnFailure = Callable[[Alert], object]
"""What an alert is given to."""


@dataclass(frozen=True)
class Webhook:
    """Posts an alert as JSON, `{"title": …, "text": …}`, to the URL that a variable of the environment holds.

    Raises FixInput where the variable has no http or https URL, and OSError where the place does not say within ten
    seconds that it took it.
    """

    url_from: str

    def __call__(self, alert: Alert) -> None:
        """Post it."""
        _post(self.url_from, {"title": alert.title, "text": alert.text})


@dataclass(frozen=True)
class Slack:
    """Posts an alert to the incoming webhook of a Slack channel; Mattermost and Rocket.Chat take the same.

    Raises what `Webhook` raises.
    """

    url_from: str = "SLACK_WEBHOOK_URL"

    def __call__(self, alert: Alert) -> None:
        """Post it, with nothing in it that Slack obeys."""
        _post(self.url_from, {"text": f"*{_plain(alert.title)}*\n```{_plain(alert.text)[:_SLACK_CHARACTERS]}```"})


@dataclass(frozen=True)
class Mail:
    """Mails an alert through an SMTP server, by STARTTLS where the server offers it.

    Attributes:
        to: the addresses.
        sender: the address it is from.
        host, port: the server.
        user_from, password_from: variables of the environment that hold the login; none without. It is sent only by
            STARTTLS, to a server whose certificate is valid.

    Raises FixInput where a login is declared and the server has no STARTTLS, or the variables are not set; OSError or
    smtplib.SMTPException where the mail is not taken.
    """

    to: Sequence[str]
    sender: str
    host: str = "localhost"
    port: int = 25
    user_from: str | None = None
    password_from: str | None = None

    def __call__(self, alert: Alert) -> None:
        """Send it."""
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = alert.title, self.sender, ", ".join(self.to)
        message.set_content(alert.text)
        with smtplib.SMTP(self.host, self.port, timeout=_SECONDS) as server:
            server.ehlo()
            logs_in, is_private = bool(self.user_from or self.password_from), server.has_extn("starttls")
            if is_private:
                server.starttls(context=ssl.create_default_context() if logs_in else None)
            if logs_in:
                server.login(*self._login(is_private=is_private))
            server.send_message(message)

    def _login(self, *, is_private: bool) -> list[str]:
        login = [os.environ.get(name or "", "") for name in (self.user_from, self.password_from)]
        if not is_private or not all(login):
            found = "one of them not set" if is_private else "no STARTTLS, so that others could read them"
            raise FixInput(
                f"Expected to log in to {self.host}:{self.port} with {self.user_from} and {self.password_from}, found "
                f"{found}.",
                remedy="Set both variables, and name a server with STARTTLS; or declare no login.",
            )
        return login


def raise_alert(hooks: Iterable[OnFailure], title: str, text: str) -> None:
    """Give an alert to every hook, also where one of them fails; raises the faults together then."""
    alert, faults = Alert(printable(title), printable_lines(text)), list[Exception]()
    for hook in hooks:
        try:
            hook(alert)
        except Exception as fault:
            faults.append(fault)
    if faults:
        raise ExceptionGroup(f"{len(faults)} alerts of {alert.title!r} were not delivered", faults)


def tick_failed(instance: dg.DagsterInstance, hooks: Sequence[OnFailure], error: Exception) -> None:
    """Alert once that the landing sensor fails: not again before it has passed or fails by something else."""
    told = sha256_hex(str(error).encode())
    if instance.daemon_cursor_storage.get_cursor_values({_CURSOR}).get(_CURSOR) == told:
        return
    kind = error.kind if isinstance(error, RefoldError) else type(error).__name__
    raise_alert(hooks, f"The sensor landing fails: {kind}", f"{error}\nNothing new is sealed until it passes.")
    instance.daemon_cursor_storage.set_cursor_values({_CURSOR: told})


def tick_passed(instance: dg.DagsterInstance) -> None:
    """The landing sensor has passed: the next failure is news."""
    if instance.daemon_cursor_storage.get_cursor_values({_CURSOR}).get(_CURSOR):
        instance.daemon_cursor_storage.set_cursor_values({_CURSOR: ""})


def _post(url_from: str, content: dict[str, Any]) -> None:
    url = os.environ.get(url_from, "")
    if not url.startswith(("https://", "http://")):
        raise FixInput(
            f"Expected the URL of a webhook in {url_from}, found {'something else' if url else 'nothing'}.",
            remedy="Set that variable where Dagster's daemon and runs see it.",
        )
    body = json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=_SECONDS):
        pass


def _plain(text: str) -> str:
    """Text as Slack shows it, without mentions, links or the end of its own block."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")
