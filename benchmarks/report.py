"""The table and the chart of `docs/benchmarks.md`, made of kept results and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measures import MEASURES

Result = Mapping[str, Any]
Row = dict[str, Any]

_HEADER = """# Benchmarks

Made by `make bench` from what it measured; not edited by hand. Every row is a process of its own, run in turns with
the others over the same generated events, and every one that has an answer gave the same: levels of all keys, and how
many events were applied, rejected and duplicates. Seconds are of work, without start-up and compiling; CPU seconds are
of all its threads. A ratio is to the baseline (× 1) of the same round; the least and the median over the rounds are
given. Memory is the most that was resident.

The log: Zipf 1.1 over 100,000 keys, 2% re-deliveries, 1% insufficient removals, ids as 36 characters of text, Parquet
with zstd. Refold reads its own sealed segments of the same events.
"""


def rows_of(result: Result) -> list[Row]:
    """One row a subject: least seconds, ratios to the baseline, peak memory."""
    rounds, subjects = result["rounds"], result["subjects"]
    divides = _has_baseline(result["measure"])
    first = subjects[0]["name"]
    rows = []
    for subject in subjects:
        runs = [each[subject["name"]] for each in rounds]
        row: Row = {"name": subject["name"], "title": subject["title"], "note": subject["note"]}
        if any("missing" in run for run in runs):
            rows.append(row | {"missing": next(run["missing"] for run in runs if "missing" in run)})
            continue
        seconds = [run["seconds"] for run in runs]
        row |= {"seconds": min(seconds), "median_seconds": median(seconds)}
        row["cpu_seconds"] = min((run["cpu_seconds"] for run in runs if "cpu_seconds" in run), default=None)
        row |= {
            "peak_bytes": max(run["peak_bytes"] for run in runs),
            "details": runs[seconds.index(min(seconds))]["details"],
        }
        if divides and all("seconds" in each[first] for each in rounds):
            ratios = [each[subject["name"]]["seconds"] / each[first]["seconds"] for each in rounds]
            row |= {"ratio": min(ratios), "median_ratio": median(ratios)}
        units = row["details"].get("snapshots_and_stores")
        if units:
            extra = median(each[subject["name"]]["seconds"] - each[first]["seconds"] for each in rounds)
            row["note"] = f"{1000 * extra / units:.1f} ms of bookkeeping a snapshot and store"
        rows.append(row)
    return rows


def _has_baseline(name: str) -> bool:
    return next((each.baseline for each in MEASURES if each.name == name), True)


def summary(result: Result) -> str:
    """A result as lines for a terminal."""
    size = f", {_count(result['events'])} events" if result["events"] else ""
    lines = [f"{result['measure']}{size}, {len(result['rounds'])} rounds: least seconds, of CPU, ratios, peak memory"]
    for row in rows_of(result):
        if "missing" in row:
            lines.append(f"  {row['title']:48} {row['missing']}")
            continue
        ratio = f"{row['ratio']:7.2f} {row['median_ratio']:7.2f}" if "ratio" in row else " " * 15
        cpu = "" if row["cpu_seconds"] is None else f"{row['cpu_seconds']:.2f}"
        lines.append(
            f"  {row['title']:48} {row['seconds']:8.3f} s {cpu:>8} {ratio} {row['peak_bytes'] / 2**20:7.0f} MB"
        )
        lines += [f"    {name} {value:.3f}" for name, value in row["details"].items() if name.endswith("_seconds")]
    return "\n".join(lines)


def table(result: Result) -> str:
    """A result as a Markdown table."""
    divides = _has_baseline(result["measure"])
    many = result["events"] > 0 and divides  # what has no baseline is not done with all of the events
    head = [
        "",
        "seconds",
        "CPU s",
        *(["× least", "× median"] if divides else []),
        *(["events/s"] if many else []),
        "peak MB",
        "",
    ]
    lines = [head, ["---", *["--:"] * (len(head) - 2), "---"]]
    for row in rows_of(result):
        if "missing" in row:
            lines.append([row["title"], *["–"] * (len(head) - 2), row["missing"]])
            continue
        cells = [row["title"], _seconds(row["seconds"])]
        cells.append("–" if row["cpu_seconds"] is None else _seconds(row["cpu_seconds"]))
        cells += [f"{row[name]:.2f}" for name in ("ratio", "median_ratio")] if divides else []
        cells += [_rate(result["events"] / row["seconds"])] if many else []
        parts = [
            f"{n.removesuffix('_seconds')} {_seconds(v)} s" for n, v in row["details"].items() if n.endswith("_seconds")
        ]
        cells += [f"{row['peak_bytes'] / 2**20:,.0f}", ", ".join([*([row["note"]] if row["note"] else []), *parts])]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_report(results: Path, docs: Path) -> None:
    """Write `benchmarks.md` and `benchmarks.svg` from all results. Raises FileNotFoundError where there are none."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not found:
        raise FileNotFoundError(f"No results in {results}: run `python -m benchmarks.run` first.")
    order = [each.name for each in MEASURES]
    found.sort(key=lambda result: (order.index(result["measure"]), -result["events"]))
    sections = [_HEADER]
    compared = [result for result in found if result["measure"] == "compare"]
    docs.mkdir(parents=True, exist_ok=True)
    if compared and _draw(compared, docs / "benchmarks.svg"):
        sections.append("![Time as a multiple of merely reading the columns](benchmarks.svg)\n")
    for place, result in enumerate(found):
        if place == 0 or found[place - 1]["measure"] != result["measure"]:
            title = next(each.title for each in MEASURES if each.name == result["measure"])
            sections.append(f"## {title}\n")
        size = f"{_count(result['events'])} events, " if result["events"] else ""
        rounds = f"{len(result['rounds'])} round{'s' * (len(result['rounds']) != 1)}"
        sections.append(f"{size}{rounds}, {result['machine']['date']}.\n\n{table(result)}\n")
    sections.append(_measured_on([result["machine"] for result in found]))
    (docs / "benchmarks.md").write_text("\n".join(sections), encoding="utf-8")


def _measured_on(machines: Sequence[Mapping[str, Any]]) -> str:
    lines = ["## Measured on\n"]
    for machine in {json.dumps({**each, "date": ""}): each for each in machines}.values():
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        memory = f"{machine['memory_bytes'] / 2**30:.0f} GB"
        lines.append(
            f"- {machine['cpus']} cores, {memory}, {machine['system']}, Python {machine['python']}; {packages}."
        )
    return "\n".join(lines) + "\n"


def _draw(results: Sequence[Result], file: Path) -> bool:
    """Draw ratios as bars on a logarithmic axis; False where the packages for drawing are not installed."""
    try:
        import altair as alt  # noqa: PLC0415  # drawing is the only use
        import vl_convert  # noqa: PLC0415  # draws what Altair describes
    except ModuleNotFoundError:
        return False
    shown: dict[str, Row] = {}
    for result in results:  # the largest size comes first
        for row in rows_of(result):
            if "median_ratio" in row and row["name"] != "read":
                size = "" if result is results[0] else f" ({_count(result['events'])})"
                shown.setdefault(row["name"], row | {"title": row["title"].replace("`", "") + size})
    least = min([0.5, *(0.8 * row["median_ratio"] for row in shown.values())])
    bars = [
        {
            "way": row["title"],
            "ratio": round(row["median_ratio"], 3),
            "from": least,
            "refold": row["title"].startswith("Refold"),
        }
        for row in shown.values()
    ]
    base = alt.Chart(alt.Data(values=bars)).encode(
        y=alt.Y("way:N", sort="x", title=None, axis=alt.Axis(labelLimit=260))
    )
    scale = alt.Scale(type="log", domainMin=least)
    bar = base.mark_bar().encode(
        x=alt.X("ratio:Q", scale=scale, title=f"times READ, {_count(results[0]['events'])} events, logarithmic"),
        x2="from:Q",
        color=alt.condition("datum.refold", alt.value("#2166ac"), alt.value("#b0b0b0")),
    )
    text = base.mark_text(align="left", dx=4).encode(
        x=alt.X("ratio:Q", scale=scale), text=alt.Text("ratio:Q", format=".3~g")
    )
    rule = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(strokeDash=[4, 3]).encode(x=alt.X("one:Q", scale=scale))
    chart = (bar + text + rule).properties(width=480, background="white")
    file.write_text(vl_convert.vegalite_to_svg(chart.to_dict()), encoding="utf-8")
    return True


def _count(events: int) -> str:
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if events >= unit and events % unit == 0:
            return f"{events // unit}{name}"
    return f"{events:,}"


def _rate(value: float) -> str:
    return f"{value / 1e6:.2f}M" if value >= 1e5 else f"{value / 1e3:.1f}k"


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
