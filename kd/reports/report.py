"""Write a run as one self-contained HTML file: settings, results and zoomable charts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.io

from kd.config.schemes import SCHEMES
from kd.figures import base, comparison, training
from kd.figures.base import Figure
from kd.objectives import METHODS
from kd.store import runs

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{
  font: 16px/1.5 system-ui, sans-serif; color: #1f2937; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
}}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
th, td {{ text-align: left; padding: 0.3rem 0.8rem; border-bottom: 1px solid #e5e7eb; white-space: nowrap; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
/* The columns exist before their charts: a chart takes its width when it is drawn. */
.charts {{
  display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr));
}}
.charts > div {{ min-width: 0; }}
small {{ color: #6b7280; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{introduction}</p>
{body}
<p><small>{foot}</small></p>
</body>
</html>
"""


def offered(run: runs.Run) -> bool:
    """Return whether this kind of run has a report: its curves are those of the Distil page."""
    return run.about.page == "distil"


def page(run: runs.Run, measured: Mapping[str, Any] | None = None) -> str:
    """Return the report of a run as HTML.

    Args:
        run: a stored run that was trained.
        measured: its measures (see kd.evaluation.comparison), which add latencies and confusion matrices.

    Raises:
        UserError: the run's metrics are missing or damaged.
    """
    rows = run.metrics()
    teacher = run.measures.get("models", {}).get("teacher", {}).get("test_accuracy")
    config: Any = run.config
    epochs, changes = config.total_epochs, getattr(config, "schedule", ())
    body = [_results(run, measured)]
    body.append(
        _charts([training.loss(rows, epochs, changes), training.accuracy(rows, epochs, changes)], first=True)
    )
    if measured:
        body += ["<h2>Latency</h2>", _latencies(measured), "<h2>Confusion matrices</h2>"]
        own = {name: model for name, model in measured["models"].items() if name in run.models}
        body.append(_charts([comparison.confusion(model["confusion"], name) for name, model in own.items()]))
    body += [
        "<h2>Settings</h2>",
        _table(["setting", "value"], [[name, value] for name, value in run.config.to_dict().items()]),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in run.measures.get("versions", {}).items())
    foot = [
        f"Run {run.id}, {run.created[:16].replace('T', ' ')}",
        f"MNIST: {run.measures.get('source', 'unknown')}",
        versions,
        run.state,
    ]
    if teacher is not None and "teacher" not in run.models:
        foot.append(f"teacher accuracy on the test set {teacher:.2%}")
    return _PAGE.format(
        title=html.escape(run.name),
        introduction=html.escape(_introduction(run)),
        body="\n".join(body),
        foot=html.escape("; ".join(filter(None, foot)) + "."),
    )


def _introduction(run: runs.Run) -> str:
    config: Any = run.config
    if not run.about.has_teacher:
        return f"The network {run.architecture}, trained from labels."
    method = METHODS[config.method].title
    scheme = "" if config.scheme == "teacher" else f" ({SCHEMES[config.scheme].title.lower()})"
    return (
        f"The student {config.student} was distilled from the teacher {config.teacher} with the method "
        f"{method}{scheme}. Its control is the same network, with the same initial weights and the same "
        "batches, trained on the labels alone."
    )


def _results(run: runs.Run, measured: Mapping[str, Any] | None) -> str:
    lines = []
    for name, scores in sorted(run.measures.get("models", {}).items(), key=lambda item: base.order(item[0])):
        interval = measured["models"][name]["interval"] if measured and name in measured["models"] else None
        lines.append(
            [
                name,
                f"{scores['test_accuracy']:.2%}",
                f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "",
                f"{scores['test_errors']:,}",
                f"{scores['agreement']:.2%}",
                f"{scores['kl']:.4f}",
            ]
        )
    return _table(
        [
            "network",
            "test accuracy",
            "95% interval",
            "errors",
            "agreement with the teacher",
            "KL from the teacher, nats",
        ],
        lines,
    )


def _latencies(measured: Mapping[str, Any]) -> str:
    lines = [
        [
            name,
            row["runtime"],
            row["batch"],
            row["threads"],
            f"{1e3 * row['median']:.3g} ± {500 * row['iqr']:.2g}",
            f"{row['images_per_second']:,.0f}",
        ]
        for name, model in measured["models"].items()
        for row in model["latency"]
    ]
    note = (
        "<p><small>Median ± half the interquartile range, in alternating rounds; "
        f"{html.escape(measured['machine'])}.</small></p>"
    )
    return _table(["network", "runtime", "batch size", "threads", "ms per batch", "images/s"], lines) + note


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    return f"<table>{_row(head, 'th')}{''.join(_row(line, 'td') for line in lines)}</table>"


def _row(cells: Sequence[Any], tag: str) -> str:
    """Return one row of a table; every cell but the first is aligned like a number."""
    content = "".join(
        f"<{tag}{'' if i == 0 else _NUMBER}>{html.escape(str(cell))}</{tag}>" for i, cell in enumerate(cells)
    )
    return f"<tr>{content}</tr>"


_NUMBER = ' class="number"'
#: Without the button "Share chart...", which would upload the chart to Plotly's servers.
_TOOLBAR = {"displaylogo": False, "responsive": True, "showSendToCloud": False}


def _charts(shown: Sequence[Figure], first: bool = False) -> str:
    """Return the charts side by side if there is room; Plotly itself is included with the ``first`` one."""
    parts: list[str] = []
    for figure in shown:
        for trace in figure["data"]:
            if trace.get("textfont", {}).get("color") == "ink":  # the app replaces it by the theme's colour
                trace["textfont"]["color"] = "#1f2937"
        white = figure | {"layout": {**figure["layout"], "template": "plotly_white"}}
        parts.append(
            plotly.io.to_html(
                white,
                full_html=False,
                include_plotlyjs=first and not parts,
                config=_TOOLBAR,
                default_width="100%",
            )
        )
    return f'<div class="charts">{"".join(f"<div>{part}</div>" for part in parts)}</div>'
