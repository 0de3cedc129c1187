"""Figures in the documents equal the stored results that they report, rounded once."""

import json
import re
import statistics

import pytest

from kd import paths
from kd.tables import cells, distilbert, methods, paper, schemes, techniques

ROOT = paths.MEASURED.parents[1]


def document(name):
    """Return a document's text with single spaces, as a browser shows it, without Markdown's emphasis."""
    return " ".join((ROOT / name).read_text().replace("**", "").split())


def table(name, heading):
    """Return the cells of the first table after a heading, without its own head."""
    lines = (ROOT / name).read_text().split(heading, 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def percent(statistic, digits=2):
    return cells.shown(statistic, digits, "%")


def statistic(values):
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values)}


def test_halves_are_rounded_up_and_only_once():
    assert cells.rounded(8.5, 0) == "9" and cells.rounded(0.125, 2) == "0.13"
    assert cells.shown(cells.spread([7.41, 7.38, 7.38, 7.35, 7.72]), 1, "%") == "7.4 ± 0.2%"
    assert cells.shown(cells.spread([248, 251, 255, 233, 263]), 1) == "250.0 ± 11.0"
    assert cells.shown(cells.spread([3.0]), 0) == "3"


def test_stored_table_of_the_paper_has_exact_means():
    for line in paper.load()["lines"]:
        for found in (line, line.get("control")):
            if found:
                assert statistic(found["values"]) == pytest.approx(
                    {key: found[key] for key in ("mean", "sd")}, abs=1e-6
                )
        if "control" in line:
            pairs = zip(line["values"], line["control"]["values"], strict=True)
            assert line["difference"] == pytest.approx(statistic([a - b for a, b in pairs]), abs=1e-6)


def test_papers_table_in_the_documents_is_the_stored_one():
    expected = []
    for line in paper.load()["lines"]:
        unit = "" if line["unit"] == "errors" else line["unit"]
        tests = line.get("mcnemar", [])
        counts = (sum(test[f"{who}_only"] for test in tests) for who in ("student", "control"))
        expected.append(
            [
                line["what"].replace("The same,", "Student 784-800-800-10,"),
                line["paper"],
                *(cells.shown(of, 1, unit) if of else "" for of in (line, line.get("control"))),
                " / ".join(map(str, counts)) if tests else "",
            ]
        )
    assert table("docs/results.md", "## The paper's table") == expected


def test_minutes_of_the_papers_table_are_the_stored_ones():
    minutes = paper.load()["core_minutes"]
    teachers, students = (cells.rounded(minutes[who], 0) for who in ("teachers", "students"))
    assert (
        f"The teachers took {teachers} core-minutes and are kept; the students took {students}."
        in document("docs/results.md")
    )


def test_compression_table_in_the_documents_is_the_stored_one():
    found = table("docs/results.md", "## Compression")
    stored = techniques.lines(techniques.load())
    assert [row[0] for row in found] == ["nothing", *(row["technique"] for row in stored[1:])]
    for row, line in zip(found, stored, strict=True):
        errors = list(line.values())[5:]
        assert row[4:] == errors, row[0]
        assert row[1].split(" ")[0] == f"{line['KB']:,.0f}", row[0]
        for cell, milliseconds in zip(row[2:4], (line["ms at 1"], line["ms at 256"]), strict=True):
            assert cell == f"{milliseconds:.2g}", row[0]


def test_schemes_in_the_documents_are_the_stored_ones():
    stored = schemes.load()
    found = table("docs/methods.md", "## All schemes on one student")
    assert found[0][1:] == [cells.shown(stored["control"][column]) for column in ("few", "all")]
    assert [row[1:] for row in found[1:]] == [
        [methods.shown(columns[column]) for column in ("few", "all")]
        for columns in stored["schemes"].values()
    ]


def test_methods_in_the_documents_are_the_stored_ones():
    stored, text = methods.load(), document("docs/methods.md")
    rows, control = stored["methods"], stored["control"]
    assert f"the control reaches {percent(control['few'], 1)} test accuracy" in text
    soft = [columns["few"]["mean"] for columns in rows.values() if columns["few"]["gain"]["mean"] > 20]
    assert len(soft) == 13
    lowest, highest = (cells.rounded(edge(soft), 1) for edge in (min, max))
    assert f"every method with soft targets {lowest} to {highest}%" in text
    alone = {name: columns["alone"]["mean"] for name, columns in rows.items() if "alone" in columns}
    (worst, low), (best, high) = (edge(alone.items(), key=lambda pair: pair[1]) for edge in (min, max))
    assert (worst, best) == ("attention", "pkt")
    assert f"Hidden layers alone give {low:.1f}% (attention) to {high:.1f}% (PKT)." in text
    lost = [-rows[name]["few"]["gain"]["mean"] for name in ("label-smoothing", "tf-kd")]
    assert f"the virtual teacher lose {min(lost):.0f} to {max(lost):.0f} points" in text
    assert f"With all labels the control reaches {percent(control['all'])}" in text


def test_methods_below_the_control_are_all_named():
    stored, text = methods.load(), document("docs/methods.md")
    gains = {name: columns["all"]["gain"] for name, columns in stored["methods"].items()}
    best = sorted(gains, key=lambda name: -gains[name]["mean"])[:4]
    assert {gains[name]["mean"] for name in best} == {0.23, 0.24}
    named = re.search(r"the best methods \((.*?)\) add 0.23 to 0.24 points", text)
    assert named and set(re.findall(r"`(.*?)`", named[1])) == set(best)
    below = {name: gain for name, gain in gains.items() if gain["mean"] < 0}
    clear = {name for name, gain in below.items() if -gain["mean"] > gain["sd"]}
    sentences = [
        re.search(r"0\.24 points\. (.*?) stay below it beyond their deviation", text),
        re.search(r"beyond their deviation \(.*?\), (.*?) within it", text),
    ]
    assert all(sentences), text
    found = [set(re.findall(r"`(.*?)`", sentence[1])) for sentence in sentences]
    assert found == [clear, below.keys() - clear]
    for name, gain in below.items():
        assert f"`{name}` −{-gain['mean']:.2f} ± {gain['sd']:.2f}" in text


def test_distilbert_in_the_documents_is_the_stored_one():
    stored, text = distilbert.load(), document("docs/results.md")
    rows = dict(
        (what, (ours, theirs)) for what, ours, theirs in table("docs/results.md", "## DistilBERT's recipe")
    )
    fewer, faster, retained = distilbert.summary(stored)
    assert rows["fewer parameters"] == fewer[1:]
    assert rows["faster, at 256 images"] == faster[1:]
    inherited, random = stored["rows"]["inherited"], stored["rows"]["random"]
    reached = f"({inherited['mean']:.2f}% of {stored['teacher']['accuracy']:.2f}%)"
    assert rows["of the teacher's accuracy"] == (f"{retained[1]} {reached}", retained[2])
    assert f"Its control reaches {inherited['control']['mean']:.2f}%" in text
    assert (
        f"from random weights reaches {random['mean']:.2f}%, and its control {random['control']['mean']:.2f}%"
    ) in text


@pytest.mark.parametrize("student", ["mlp-30", "mlp-300"])
def test_sweeps_in_the_documents_are_the_stored_ones(student):
    stored = json.loads((paths.MEASURED / f"sweep_{student}.json").read_text())["cells"]
    row = next(
        row for row in table("docs/sweeps.md", "Hinton et al. report") if row[0].startswith(f"`{student}`")
    )
    wanted = [cell for cell in stored if cell["control"] or cell["soft_weight"] == 1]
    by_temperature = {}
    for cell in wanted:
        by_temperature.setdefault(cell.get("temperature"), []).append(cell["test_errors"])
    expected = [cells.shown(cells.spread(by_temperature[t]), 0) for t in (1, 2, 3, 4, 8, 20, None)]
    assert row[1:] == expected
    assert row[0] == f"`{student}`, {len(by_temperature[None])} seeds"
    change = [b - a for a, b in zip(by_temperature[8], by_temperature[20], strict=True)]  # by seed
    if student == "mlp-300":
        more = cells.shown(cells.spread(change), 0)
        assert f"T = 20 makes {more} more errors than T = 8" in document("docs/sweeps.md")


def test_search_in_the_documents_is_the_stored_one():
    stored, text = json.loads((paths.MEASURED / "search.json").read_text()), document("docs/sweeps.md")
    best, models = stored["best"], stored["models"]
    assert (
        f"the best was `{best['method']}` at T = {best['temperature']:.1f}, soft weight "
        f"{best['soft_weight']:.2f} and learning rate {best['learning_rate']:.2g}: "
        f"{models['student']['test_errors']} errors in the 10,000 test images, its control "
        f"{models['control']['test_errors']}, the tuned control (learning rate "
        f"{stored['tuned_control']['learning_rate']:.2g}) {models['tuned control']['test_errors']}."
    ) in text
    shares = [f"{share:.0%}" for share in stored["importances"].values()]
    assert (
        f"the method explains {shares[0]} of the differences between trials, the learning rate {shares[1]}, "
        f"the temperature {shares[2]}."
    ) in text


def test_readmes_figures_with_few_labels_are_the_stored_ones():
    stored = methods.load()
    student = stored["methods"]["hinton"]["few"]["mean"]
    assert (
        f"`{stored['student']}` reaches {student:.2f}% with soft targets and its control "
        f"{stored['control']['few']['mean']:.1f}%"
    ) in document("README.md")
