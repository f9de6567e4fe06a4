"""Which layout the names of objects have, and which logs they belong to: by names alone, nothing is read.

Each object counts for the first form that fits its name. The forms are those of `refold.landing.names` and folders of
days; what fits none of them but is alike is taken by its arrival.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from refold.landing import names
from refold.landing.layout import Folders, Layout, is_hidden, is_hidden_folder
from refold.landing.listing import LandingObject, Skipped, below, list_landing
from refold.landing.names import Names
from refold.storage.objects import ObjectInfo, ObjectStore

_DATE = r"(?:19|20)\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_YEAR, _TWO = r"(?:19|20)\d{2}", r"\d{1,2}"
_TOPIC_FILE = r"(?P<topic>[^/]+)\+\d+\+\d+(?:\.[^/]*)?"
_DAYS = rf"year={_YEAR}/month={_TWO}/day={_TWO}"


@dataclass(frozen=True)
class Form:
    """A form of names: `pattern` finds the folder of the log, and perhaps its topic, in a whole name.

    Attributes:
        title: for people.
        layout: the constant of `refold.landing.names` that reads them, by its name; "" where `template` does.
        template: names the folders of days, with the groups of the pattern in `<>`.
        shared: whether one folder may hold several topics.
    """

    title: str
    pattern: re.Pattern[str]
    layout: str = ""
    template: str = ""
    shared: bool = False


def _form(title: str, pattern: str, layout: str = "", template: str = "", *, shared: bool = False) -> Form:
    return Form(title, re.compile(pattern, re.ASCII), layout, template, shared)


_FOLDER = r"(?P<folder>(?:[^/]+/)*?)"
FORMS = (
    _form("Confluent S3 sink", rf"(?P<folder>(?:[^/]+/)*?)partition=\d+/{_TOPIC_FILE}", "CONFLUENT"),
    _form("Confluent S3 sink by time", rf"{_FOLDER}{_DAYS}/(?:[^/]+/)*{_TOPIC_FILE}", "CONFLUENT_DAILY"),
    _form(
        "Confluent S3 sink by fields",
        r"(?P<folder>(?:[^/]+/)*?(?P<topic>[^/]+)/)(?:[^/]+/)*(?P=topic)\+\d+\+\d+(?:\.[^/]*)?",
        "CONFLUENT_FIELDS",
    ),
    _form("Lenses S3 sink", rf"{_FOLDER}(?P<topic>[^/]+)\(\d+_\d+\)(?:\.[^/]*)?", "LENSES", shared=True),
    _form("AWS DMS", rf"{_FOLDER}(?:LOAD[0-9A-F]{{8}}|{_YEAR}\d{{4}}-\d{{9}})(?:\.[^/]*)?", "DMS"),
    _form("Amazon Data Firehose", rf"{_FOLDER}{_YEAR}/\d\d/\d\d/\d\d/[^/]+", "FIREHOSE_DAILY"),
    _form("folders of days", rf"{_FOLDER}{_DAYS}/.+", template="year={{year}}/month={{month}}/day={{day}}"),
    _form(
        "folders of days",
        rf"{_FOLDER}(?P<y>[^/=]+)={_YEAR}/(?P<m>[^/=]+)={_TWO}/(?P<d>[^/=]+)={_TWO}/.+",
        template="{y}={{year}}/{m}={{month}}/{d}={{day}}",
    ),
    _form("folders of days", rf"{_FOLDER}(?P<c>[^/=]+)={_DATE}/.+", template="{c}={{date}}"),
    _form("folders of days", rf"{_FOLDER}{_DATE}/.+", template="{{date}}"),
    _form("folders of days", rf"{_FOLDER}{_YEAR}/\d\d/\d\d/[^/]+", template="{{year}}/{{month}}/{{day}}"),
    _form("Aiven S3 sink", rf"{_FOLDER}(?P<topic>[^/]+)-\d{{1,5}}-\d+(?:\.[^/]*)?", "AIVEN", shared=True),
    _form("Lenses S3 sink", rf"{_FOLDER}(?P<topic>[^/]+)/\d{{1,5}}/\d+(?:\.[^/]*)?", "LENSES", shared=True),
)
"""In order: the first that fits a name counts."""

_DATED_FILE = re.compile(rf"(?P<folder>(?:[^/]+/)*)(?P<before>[^/]*?){_DATE}(?P<after>[^/.]*)(?:\.[^/]*)?", re.ASCII)
_SIDECAR = re.compile(r".+\.(?:keys|headers)(?:\.[A-Za-z0-9]+)+")


@dataclass(frozen=True)
class Named:
    """Objects of one log by their names.

    Attributes:
        title: of the form.
        folder: the folder of the log, without a slash at its end.
        topic: where the names have one.
        layout: reads the names.
        shown: the layout as a declaration has it, and `imported` what that needs from `refold.landing.names`.
        infos: the objects that the form fits.
        objects, skipped: what listing makes of the folder; empty where it refuses something.
    """

    title: str
    folder: str
    topic: str
    layout: Layout
    shown: str
    imported: str = ""
    infos: Sequence[ObjectInfo] = ()
    objects: Sequence[LandingObject] = ()
    skipped: Sequence[Skipped] = ()
    suffixes: tuple[str, ...] = field(default=())

    def listed(self, store: ObjectStore, suffixes: tuple[str, ...]) -> Named:
        """With its objects in the order of sealing. Raises RefusedLanding."""
        landing = list_landing(store, self.topic or self.folder, suffixes, self.layout, self.folder)
        return replace(self, objects=landing.objects, skipped=landing.skipped, suffixes=suffixes)


def named(infos: Iterable[ObjectInfo]) -> tuple[list[Named], list[str]]:
    """The logs that names show, by folder and topic, and the names that fit no form and are not hidden, sorted."""
    groups = defaultdict[tuple[str, str, str, str], list[ObjectInfo]](list)
    rest = list[ObjectInfo]()
    for info in infos:
        if _is_no_data(info):
            continue
        found = next(((form, match) for form in FORMS if (match := form.pattern.fullmatch(info.name))), None)
        if found is None:
            rest.append(info)
        else:
            form, match = found
            folder, topic = match["folder"].rstrip("/"), match.groupdict().get("topic") or ""
            groups[folder, topic, form.layout, form.template.format(**match.groupdict())].append(info)
    logs = [_of_group(*group, found, _is_shared(group, groups)) for group, found in sorted(groups.items())]
    taken = {(log.folder, log.topic) for log in logs}
    others, strange = _of_rest(rest, {folder for folder, _ in taken})
    return [*logs, *others], sorted(strange)


def _is_no_data(info: ObjectInfo) -> bool:
    *folders, file = info.name.split("/")
    hidden = is_hidden(file) or any(map(is_hidden_folder, folders))
    return hidden or not info.size_bytes or _SIDECAR.fullmatch(info.name) is not None


def _is_shared(group: tuple[str, ...], groups: Mapping[tuple[str, str, str, str], object]) -> bool:
    return sum(other[0] == group[0] and other[2] == group[2] for other in groups) > 1


def _of_group(
    folder: str, topic: str, layout: str, template: str, infos: Sequence[ObjectInfo], is_shared: bool
) -> Named:
    form = next(each for each in FORMS if each.layout == layout and (layout or template))
    if not layout:
        return Named("folders of days", folder, topic, Folders(template), f'Folders("{template}")', "", infos)
    known: Names = getattr(names, layout)
    if not (form.shared and is_shared):
        return Named(form.title, folder, topic, known, layout, layout, infos)
    include = tuple(f"{topic}{mark}*" for mark in (("-",) if layout == "AIVEN" else ("(", "/")))
    last = ", offset_is_last=True" if known.offset_is_last else ""
    shown = f'Names(*{layout}.templates, arrival="day", include={include!r}{last})'.replace("'", '"')
    chosen = Names(*known.templates, arrival=known.arrival, include=include, offset_is_last=known.offset_is_last)
    return Named(form.title, folder, topic, chosen, shown, layout, infos)


def _of_rest(infos: Sequence[ObjectInfo], taken: set[str]) -> tuple[list[Named], list[str]]:
    """Logs of other names, a folder each: by a date in the file's name, else by arrival. The others fit nothing."""
    folders = defaultdict[str, list[ObjectInfo]](list)
    for info in infos:
        folders[info.name.rpartition("/")[0]].append(info)
    logs, strange = list[Named](), list[str]()
    for folder, found in sorted(folders.items()):
        if any(folder == each or folder.startswith(f"{each}/") or not each for each in taken):
            strange += [info.name for info in found]
            continue
        template = _dated([below(folder, info.name) for info in found])
        layout = Names("{any}", arrival="day") if template is None else Names(template)
        shown = 'Names("{any}", arrival="day")' if template is None else f'Names("{template}")'
        title = "names without a date" if template is None else "a date in the name"
        logs.append(Named(title, folder, "", layout, shown, "", found))
    return logs, strange


def _dated(files: Sequence[str]) -> str | None:
    """A template of names with one date, where one fits all."""
    matches = [_DATED_FILE.fullmatch(file) for file in files]
    ends = {(match["before"], "{any}" if match["after"] else "") for match in matches if match}
    if None in matches or len(ends) != 1:
        return None
    before, after = next(iter(ends))
    return None if set(before) & set("{}") else f"{before}{{date}}{after}"
