"""Alerts reach real servers, once for each failure, with what, where and what to do."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import dagster as dg
import pytest

from refold.dagster import Alert, Mail, Slack, Webhook, build_defs
from refold.dagster.alerts import OnFailure, raise_alert
from refold.errors import FixInput, RefusedLanding
from tests.dagster.house import House, day
from tests.serving import serving
from tests.support import moved

LATER = "2026-01-20T00:00:00+00:00"
ALERT = Alert("Run 1 of job rebuild_snapshot failed", "step seal: <!channel> `b.jsonl.gz` is cut off\nRestore it.")


@contextmanager
def web(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A web server, and what was posted to it."""
    posted: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/hook", posted


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """A server that takes mail by SMTP (RFC 5321), and the mails it took."""
    taken: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def answer(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.answer("220 here")
            for line in self.rfile:
                verb = line.split()[0].upper().decode()
                if verb == "DATA":
                    self.answer("354 go on")
                    taken.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.answer("221 bye" if verb == "QUIT" else "250 done")
                if verb == "QUIT":
                    return

    with serving(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, taken


def test_a_webhook_is_posted_and_slack_obeys_nothing_in_it(monkeypatch: pytest.MonkeyPatch):
    with web() as (url, posted):
        monkeypatch.setenv("HOOK", url)
        Webhook("HOOK")(ALERT)
        Slack("HOOK")(ALERT)
    assert posted[0] == {"title": ALERT.title, "text": ALERT.text}
    expected = "step seal: &lt;!channel&gt; 'b.jsonl.gz' is cut off\nRestore it."
    assert posted[1] == {"text": f"*{ALERT.title}*\n```{expected}```"}


def test_a_mail_is_sent():
    with mail_server() as (port, taken):
        Mail(["ops@shop.example"], "refold@shop.example", "127.0.0.1", port)(ALERT)
    (mail,) = taken
    assert f"Subject: {ALERT.title}\r\n" in mail
    assert "To: ops@shop.example\r\n" in mail
    assert "Restore it.\r\n" in mail


def test_a_login_is_not_sent_where_others_could_read_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAIL_USER", "ops")
    monkeypatch.setenv("MAIL_PASSWORD", "secret")
    with mail_server() as (port, taken):
        mail = Mail(["ops@shop.example"], "refold@shop.example", "127.0.0.1", port, "MAIL_USER", "MAIL_PASSWORD")
        with pytest.raises(FixInput, match="found no STARTTLS"):
            mail(ALERT)
    assert taken == []


def test_an_alert_that_is_not_delivered_is_an_error_and_the_others_are_delivered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ELSEWHERE", "file:///etc/passwd")
    seen: list[Alert] = []
    with web(status=500) as (url, _):
        monkeypatch.setenv("HOOK", url)
        with pytest.raises(ExceptionGroup, match="3 alerts of 'a title' were not delivered") as caught:
            hooks: list[OnFailure] = [Webhook("HOOK"), Webhook("ELSEWHERE"), Webhook("NOWHERE"), seen.append]
            raise_alert(hooks, "a title", "a text")
    assert seen == [Alert("a title", "a text")]
    assert len(caught.value.split(FixInput)[0].exceptions) == 2  # type: ignore[union-attr]
    assert url not in str(caught.value.exceptions)


class TestInDagster:
    def landing(self, house: House, hooks: list[OnFailure]) -> None:
        defs = build_defs(house.shop.project, house.places(time=LATER), on_failure=hooks)
        with dg.build_sensor_context(
            instance=house.instance,
            repository_def=defs.get_repository_def(),
            resources={"engine": house.places(time=LATER)},
        ) as context:
            defs.resolve_sensor_def("landing").evaluate_tick(context)

    def test_a_tick_that_cannot_read_landing_alerts_once_until_it_passes(self, house: House):
        seen: list[Alert] = []
        stray = house.shop.land(f"dt={day(1)}/notes.txt", "not an event")
        for _ in range(2):
            with pytest.raises(RefusedLanding):
                self.landing(house, [seen.append])
        (alert,) = seen
        assert alert.title == "The sensor landing fails: refused-landing"
        assert "notes.txt" in alert.text and "Nothing new is sealed until it passes." in alert.text
        stray.unlink()
        self.landing(house, [seen.append])
        house.shop.land(f"dt={day(1)}/notes.txt", "not an event")
        with pytest.raises(RefusedLanding):
            self.landing(house, [seen.append])
        assert len(seen) == 2

    def test_a_failed_run_alerts_with_its_report(self, house: House):
        seen: list[Alert] = []
        house.shop.land(f"dt={day(1)}/a.jsonl", moved("8", "lamp", 1))
        house.shop.land(f"dt={day(1)}/b.jsonl", "{broken\n" * 5)
        result = house.run("rebuild_snapshot", day(1))
        assert not result.success
        sensor = build_defs(house.shop.project, house.places(time=LATER), on_failure=[seen.append]).resolve_sensor_def(
            "run_failed"
        )
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        (event,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.RUN_FAILURE]
        with dg.build_run_status_sensor_context(
            sensor_name="run_failed",
            dagster_instance=house.instance,
            dagster_run=result.dagster_run,
            dagster_event=event,
        ) as context:
            sensor(context.for_run_failure())
        (alert,) = seen
        assert alert.title.startswith(f"Run {result.run_id} of job rebuild_snapshot failed for snapshot {day(1)}")
        assert "b.jsonl" in alert.text and "Readers still see the release before" in alert.text
