"""Text from users is shown literally, never as Markdown or HTML."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd import paths
from kd.config.distil import DistilConfig
from kd.evaluation import comparison
from kd.figures.comparison import overlaid, pareto
from kd.reports import report
from kd.store import runs
from kd.ui.shell.escape import cell, plain
from tests.helpers import MEASURES

EVIL = "<img src=x onerror=alert(1)> ![x](https://evil.example/x.png) :red[a] **b**"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mlp-30 T=4 ×5", "mlp-30 T=4 ×5"),
        ("Set KD_MAX_RUNS to 12: more.", "Set KD_MAX_RUNS to 12: more."),
        ("<b>", r"\<b>"),
        ("![x](https://e.example/x.png)", "!\\[x\\](https\\:\u2060//e.example/x.png)"),
        ("www.e.example", "www\u2060.e.example"),
        ("a@e.example", "a@\u2060e.example"),
        (":material/delete: 1 @ 2", "\\:\u2060material/delete: 1 @ 2"),
        ("$x$ `c` ~~d~~ _e_ &lt;", r"\$x\$ \`c\` \~\~d\~\~ \_e\_ \&lt;"),
        ("# a\n# b", r"\# a # b"),
        ("1. a", r"1\. a"),
        (r"\<b>", r"\\\<b>"),
        (":fire: 12:30", "\\:\u2060fire: 12\\:30"),
        (":+1:a-b:", "\\:\u2060+1\\:\u2060a-b:"),
    ],
)
def test_only_markup_is_escaped(text, shown):
    assert plain(text) == shown


@given(st.text())
def test_escaped_text_keeps_every_character(text):
    shown = re.sub(r"\\([!-/:-@[-`{-~])", r"\1", plain(text))
    assert shown.replace("\u2060", "") == " ".join(text.split()).replace("\u2060", "")


@given(st.text(alphabet="<>[]()!*_`:$\\a ~&;w.1"))
def test_no_markup_is_left_unescaped(text):
    bare = re.sub(r"\\[!-/:-@[-`{-~]", "", plain(text))
    assert not re.search(r"[<\[\]`*$~]|:\S", bare)


#: What Streamlit replaces in parsed text, by remark-emoji, remark-gfm and its own plugin for icons.
REPLACED = [
    r":\+1:|:-1:|:[\w-]+:",
    r":material/(\w+):",
    r"(https?://|www(?=\.))([-.\w]+)([^ \t\r\n]*)",
    r"([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)",
]


@given(
    st.lists(
        st.sampled_from([":", "a", "+1", "-1", "_", " ", "material/", "https://", "www.", ".", "@", "-"])
    )
)
def test_nothing_is_left_that_is_replaced_in_parsed_text(parts):
    parsed = re.sub(r"\\([!-/:-@[-`{-~])", r"\1", plain("".join(parts)))
    assert not [pattern for pattern in REPLACED if re.search(pattern, parsed, re.IGNORECASE | re.ASCII)]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_name_in_a_table_is_no_formula(start):
    assert cell(f"{start}cmd|'/c calc'!A1") == f"'{start}cmd|'/c calc'!A1"


def test_ordinary_name_in_a_table_stays():
    assert cell("mlp-30 T=4 ×5") == "mlp-30 T=4 ×5"


def test_messages_name_no_folder_of_the_server(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "data" / "runs"))
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KD_CACHE_DIR", "cache")
    message = f"{tmp_path}/data/runs/x.json, {tmp_path}/data. {tmp_path}/data-2 {paths.MEASURED}/a"
    assert paths.without_folders(message) == f"$KD_HOME/x.json, $KD_DATA_DIR. {tmp_path}/data-2 kd/measured/a"
    assert plain(f"in {tmp_path}/data/runs") == r"in \$KD_HOME"
    assert paths.without_folders("a cache of runs") == "a cache of runs"


def test_names_in_charts_are_not_html():
    point = comparison.ParetoPoint(
        *[
            EVIL if field == "name" else "student" if field == "role" else 1.0
            for field in comparison.ParetoPoint.__dataclass_fields__
        ]
    )
    rows = [{"epoch": 1.0, "whole_validation": 1.0, "validation student": 0.9, "validation control": 0.8}]
    for figure in (pareto([point], 1), overlaid({EVIL: (rows, 1)})):
        assert "&lt;img" in str(figure) and "<img" not in str(figure)


def test_name_in_a_report_is_not_html(home):
    row = {"step": 1, "epoch": 1.0, "seconds": 1.0, "images_per_second": 100.0, "whole_validation": 1.0}
    text = report.page(
        runs.save(runs.new_id(), DistilConfig(student="mlp-30"), "done", [row], {}, MEASURES, name=EVIL[:60])
    )
    assert "&lt;img src=x" in text and "<img src=x" not in text
