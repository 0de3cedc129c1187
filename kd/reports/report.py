"""A run as one HTML file that needs nothing else: settings, results and its charts, which can be zoomed."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.io

from kd.config.distil import DistilConfig
from kd.config.schemes import SCHEMES
from kd.figures import comparison, training
from kd.figures.training import Figure
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
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2937; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
th, td {{ text-align: left; padding: 0.3rem 0.8rem; border-bottom: 1px solid #e5e7eb; white-space: nowrap; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
/* Columns that are there before their charts: a chart takes its width when it is drawn. */
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }}
.charts > div {{ min-width: 0; }}
small {{ color: #6b7280; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{what}</p>
{body}
<p><small>{foot}</small></p>
</body>
</html>
"""


def page(run: runs.Run, measured: Mapping[str, Any] | None = None) -> str:
    """The report of ``run`` as HTML; with latencies and confusions where it was ``measured`` (see kd.evaluation.comparison).

    Raises:
        UserError: the run's metrics are missing or damaged.
    """
    rows = run.metrics()
    teacher = run.measures.get("models", {}).get("teacher", {}).get("test_accuracy")
    epochs = run.config.total_epochs
    changes = getattr(run.config, "schedule", ())
    body = [_results(run, measured)]
    body.append(
        _charts([training.loss(rows, epochs, changes), training.accuracy(rows, epochs, changes)], first=True)
    )
    if measured:
        body += ["<h2>Latency</h2>", _latencies(measured), "<h2>What is read as what</h2>"]
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
        foot.append(f"its teacher reads {teacher:.2%} of the test images right")
    return _PAGE.format(
        title=html.escape(run.name),
        what=html.escape(_what(run)),
        body="\n".join(body),
        foot=html.escape("; ".join(filter(None, foot)) + "."),
    )


def _what(run: runs.Run) -> str:
    config = run.config
    if not isinstance(config, DistilConfig):
        return f"The network {run.architecture}, trained from labels."
    taught = METHODS[config.method].title
    scheme = "" if config.scheme == "teacher" else f" ({SCHEMES[config.scheme].title.lower()})"
    return (
        f"The student {config.student} was distilled from the teacher {config.teacher} by {taught}{scheme}. Its control is the same network, with the same initial "
        "weights and the same batches, taught by the labels alone."
    )


def _results(run: runs.Run, measured: Mapping[str, Any] | None) -> str:
    lines = []
    for name, found in sorted(
        run.measures.get("models", {}).items(), key=lambda item: training.order(item[0])
    ):
        interval = measured["models"][name]["interval"] if measured and name in measured["models"] else None
        lines.append(
            [
                name,
                f"{found['test_accuracy']:.2%}",
                f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "",
                f"{found['test_errors']:,}",
                f"{found['agreement']:.2%}",
                f"{found['kl']:.4f}",
            ]
        )
    return _table(
        [
            "network",
            "test accuracy",
            "95% interval",
            "errors",
            "agrees with the teacher",
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
    where = f"<p><small>Medians and half the interquartile range, in alternating rounds; {html.escape(measured['machine'])}.</small></p>"
    return _table(["network", "run by", "images at once", "threads", "ms", "images/s"], lines) + where


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    def row(cells: Sequence[Any], tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{'' if i == 0 else _NUMBER}>{html.escape(str(cell))}</{tag}>"
                for i, cell in enumerate(cells)
            )
            + "</tr>"
        )

    return f"<table>{row(head, 'th')}{''.join(row(line, 'td') for line in lines)}</table>"


_NUMBER = ' class="number"'


def _charts(shown: Sequence[Figure], first: bool = False) -> str:
    """Side by side where there is room; Plotly itself comes with the ``first``."""
    parts = []
    for figure in shown:
        for trace in figure["data"]:
            if trace.get("textfont", {}).get("color") == "ink":  # the app's charts take it from the theme
                trace["textfont"]["color"] = "#1f2937"
        white = figure | {"layout": {**figure["layout"], "template": "plotly_white"}}
        parts.append(
            plotly.io.to_html(
                white,
                full_html=False,
                include_plotlyjs=first and not parts,
                config={"displaylogo": False, "responsive": True},
                default_width="100%",
            )
        )
    return f'<div class="charts">{"".join(f"<div>{part}</div>" for part in parts)}</div>'
