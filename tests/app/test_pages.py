"""Every page in Streamlit's test harness: first visit, links, whole and damaged runs."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save
from streamlit.testing.v1 import AppTest
from torch import nn

from kd import paths
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.experiments.distil import Distillation
from kd.figures import training
from kd.models import registry
from kd.store import checkpoints, runs
from kd.ui.drawing import answers
from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, query, said
from tests.helpers import wait_until

pytestmark = pytest.mark.app


@pytest.fixture
def stored(app, mnist):
    """Return a finished run of this visitor."""
    config = DistilConfig(student="mlp-30", epochs=1, temperature=8.0, schedule=((3, "temperature", 2.0),))
    experiment = Distillation(config, mnist, shared.manager().teacher("cnn"))
    rows, last = [], None
    for last in experiment.records():
        rows.append(last.row())
    return runs.save(
        runs.new_id(),
        config,
        "done",
        rows,
        experiment.trained,
        experiment.measures(last),
        runs.owner_digest(TOKEN),
    )


@pytest.fixture
def one_more(monkeypatch):
    """Add an architecture to the registry."""
    entry = registry.Architecture(
        "tanh-12",
        "Twelve units that bend both ways.",
        lambda task: nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.Tanh(), nn.Linear(12, 10)),
        student=True,
    )
    monkeypatch.setitem(registry.ARCHITECTURES, entry.name, entry)
    return entry


def picture(at: AppTest, who: str) -> str:
    """Return the diagram of the teacher's or the student's layers."""
    return next(
        json.loads(found.proto.json)["svg"]
        for found in at.get("bidi_component")
        if found.key == f"network_{who}"
    )


@pytest.fixture
def interrupted(app, mnist):
    """Return an interrupted run of this visitor, stopped after the first of two epochs."""
    config = DistilConfig(student="mlp-30", epochs=2, temperature=8.0, schedule=((3, "temperature", 2.0),))
    experiment = Distillation(config, mnist, shared.manager().teacher("cnn"))
    keeper = checkpoints.Keeper(runs.new_id(), runs.owner_digest(TOKEN))
    assert keeper.keep(experiment, config, [next(experiment.records()).row()]) == ""
    keeper.leave(ended=False)
    return checkpoints.list_interrupted()[0][0].id


@pytest.mark.parametrize("page", [None, "draw", "runs", "compare", "compress", "methods", "paper", "sweep"])
def test_first_visit_shows_every_page_without_error(app, page):
    at = app(page)
    assert not at.exception and not at.error
    assert at.title


def test_sample_is_labelled_and_a_retry_is_offered(app):
    at = app()
    assert "5,000 real MNIST images" in said(at) and "its recipe was chosen on them" in said(at)
    assert at.button(key="retry_download")


def test_link_restores_every_setting(app):
    at = app(
        student="mlp-64-32",
        temperature="7.5",
        soft_weight="0.25",
        epochs="3",
        batch_size="64",
        learning_rate="0.01",
        seed="9",
    )
    assert not at.error
    config = DistilConfig.from_dict(at.session_state[session_keys.SETTINGS]["distil"])
    assert config == DistilConfig(
        student="mlp-64-32",
        temperature=7.5,
        soft_weight=0.25,
        epochs=3,
        batch_size=64,
        learning_rate=0.01,
        seed=9,
    )
    assert at.slider(key="distil_width0").value == 64 and at.slider(key="distil_width1").value == 32


@pytest.mark.parametrize(
    "query, words",
    [
        ({"temperature": "1e9"}, "Temperature must be between 1 and 20"),
        ({"temperature": "nan"}, "Temperature must be a number"),
        ({"student": "mlp-99999999"}, "1 to 2048 units"),
        ({"student": "<script>alert(1)</script>"}, "There is no architecture"),
        ({"epochs": "-3"}, "Epochs must be between"),
        ({"teacher": "nobody"}, "There is no teacher"),
        ({"run": "../../etc"}, "does not contain a valid run id"),
        ({"run": "20200101-000000-0123456789abcdef"}, "no longer there"),
    ],
)
def test_bad_link_gives_one_sentence_and_the_page_works(app, query, words):
    at = app(**query)
    assert not at.exception
    assert words in said(at)
    assert at.button(key="start")


def test_preset_fills_in_the_settings(app):
    at = app()
    at.selectbox(key=session_keys.PRESET).set_value("Hinton 2015").run()
    assert at.session_state[session_keys.SETTINGS]["distil"]["student"] == "mlp-800x2"
    assert at.slider(key="distil_temperature").value == 20.0


def test_start_queues_a_run_that_the_link_finds(app):
    at = app(student="linear", epochs="1")
    at.button(key="start").click().run()
    assert not at.exception
    run_id = at.session_state[session_keys.RUN]
    assert query(at)["run"] == run_id
    assert shared.manager().snapshot(run_id, TOKEN).mine
    assert not shared.manager().snapshot(run_id, "x" * 32).mine


def test_stored_run_opens_with_curves_result_and_settings(app, stored):
    at = app(run=stored.id)
    assert not at.exception
    assert [metric.label.split()[-1] for metric in at.metric] == ["teacher", "student", "control"]
    assert at.slider(key="distil_temperature").value == 8.0
    assert "after step 3 temperature → 2" in said(at)


def test_runs_with_the_same_name_can_be_distinguished(app, stored):
    """Check distinct names: a select box identifies an option by its text."""
    for id in (runs.new_id(), f"{stored.id[:15]}-{'0' * 16}"):  # the second began in the same second
        folder = shutil.copytree(stored.folder, stored.folder.with_name(id))
        (folder / "config.json").write_text((folder / "config.json").read_text().replace(stored.id, id))
    for page, label in (("runs", "Run"), ("draw", "Model"), ("compress", "Network")):
        options = [
            option
            for box in app(page).selectbox
            if box.label == label
            for option in box.options
            if stored.name in option
        ]
        assert len(options) == len(set(options)) == 3, page


def test_chart_is_built_once_for_all_spectators(app, stored, monkeypatch):
    built = []
    loss = training.loss
    monkeypatch.setattr(training, "loss", lambda *args: built.append(1) or loss(*args))
    for _ in range(3):
        assert not app(run=stored.id).exception
    assert len(built) == 1


def test_teacher_predicts_a_picture_once(app, mnist):
    app()
    asked = []
    shared.manager().teacher("cnn").model.register_forward_hook(lambda *args: asked.append(1))
    answers.familiar("cnn")
    one, other = mnist.test.images[0].numpy(), mnist.test.images[1].numpy()
    found = answers.answer(one, None, "cnn")
    asked.clear()
    again = answers.answer(one, None, "cnn")
    assert torch.equal(found.logits["teacher"], again.logits["teacher"]) and not asked
    assert (
        not torch.equal(answers.answer(other, None, "cnn").logits["teacher"], again.logits["teacher"])
        and asked
    )


def test_damaged_run_is_named_and_the_others_are_listed(app, stored):
    broken = paths.home() / runs.new_id()
    broken.mkdir()
    (broken / "config.json").write_text("{")
    at = app("runs")
    assert not at.exception
    assert broken.name in said(at)
    assert len(at.dataframe[0].value) == 1


def test_unreadable_metrics_give_a_sentence_and_lose_nothing(app, stored):
    (stored.folder / "metrics.csv").write_bytes(b"\x00\xff")
    at = app(run=stored.id)
    assert not at.exception and "metrics" in said(at)
    assert json.loads((stored.folder / "measures.json").read_text())["models"]["student"]


def test_teacher_and_student_are_drawn_layer_by_layer(app):
    at = app(student="mlp-64-32")
    assert (
        "The layers of cnn: image" in picture(at, "teacher")
        and picture(at, "teacher").count("3×3 convolution, ReLU</text>") == 5
    )
    assert "The layers of mlp-64-32: image" in picture(at, "student") and ">2,080</text>" in picture(
        at, "student"
    )


def test_one_registry_entry_adds_a_complete_architecture(app, one_more):
    at = app(student=one_more.name, epochs="1")
    assert not at.exception and not at.error
    assert one_more.name in at.selectbox(key="distil_student").options and one_more.purpose in said(at)
    assert one_more.name in list(at.dataframe[0].value["network"]) and "Tanh" in picture(at, "student")
    at.button(key="start").click().run()
    run_id = at.session_state[session_keys.RUN]
    wait_until(lambda: shared.manager().snapshot(run_id, TOKEN).state == "done", "the end of the run", 60)
    assert 0 < runs.load(run_id).measures["models"]["student"]["test_accuracy"] <= 1
    assert one_more.name in app(mode="teacher").selectbox(key="teacher_teacher").options


@pytest.fixture
def vit(app):
    """Return the id of a run that trained a Transformer."""
    return runs.save(
        runs.new_id(), TeacherConfig(teacher="vit"), "done", [], {"teacher": registry.build("vit", 5)}, {}
    ).id


def test_teacher_initialization_is_offered_where_it_fits(app, vit):
    at = app(student="vit-half", teacher=vit, initialization="teacher")
    assert not at.exception and not at.error
    assert at.session_state[session_keys.SETTINGS]["distil"]["initialization"] == "teacher"
    at.selectbox(key="distil_student").set_value("mlp-30").run()
    assert "cannot start with this teacher's layers" in said(at) and at.button(key="start").disabled
    assert "distil_initialization" not in app(student="mlp-30").session_state


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def test_resume_right_after_step_continues(app):
    at = app(student="linear", epochs="100", batch_size="1")
    at.button(key="step").click().run()

    def records():
        return len(shared.manager().snapshot(at.session_state[session_keys.RUN], TOKEN).rows)

    wait_until(lambda: records() == 1, "the first step")
    at.run()
    at.button(key="step").click()
    at.button(key="resume").click()
    at.run()  # a busy server tells both to one run of the page, in no order
    wait_until(lambda: records() > 3, "more steps than one")


def test_owner_resumes_an_interrupted_run(app, interrupted):
    at = app(run=interrupted)
    assert not at.exception and not at.error
    assert (
        "The server stopped or failed during this run, or nobody was watching it. "
        "Saved up to epoch 1.00 of 2." in said(at)
    )
    assert at.slider(key="distil_temperature").value == 8.0 and "after step 3 temperature → 2" in said(at)
    assert "Discard it" in labels(at) and "Start" not in labels(at)
    assert at.button(key="step").disabled
    at.button(key="resume").click().run()
    assert not at.exception and not at.error
    assert shared.manager().snapshot(interrupted, TOKEN).mine and "during this run" not in said(at)


def test_owner_discards_an_interrupted_run(app, interrupted):
    at = app(run=interrupted)
    at.button(key="discard").click().run()
    assert not at.exception and "was discarded" in " ".join(element.value for element in at.success)
    assert (
        not checkpoints.exists(interrupted)
        and at.session_state[session_keys.RUN] is None
        and "Start" in labels(at)
    )


def test_others_see_an_interrupted_run_without_commands(app, interrupted):
    at = app()
    at.session_state[session_keys.OWNER] = "x" * 32
    at.session_state[session_keys.RUN] = interrupted
    at.run()
    assert "Only the person who started it can resume it" in said(at)
    assert not {"Resume", "Discard it"} & set(labels(at)) and "Start" in labels(at)


def test_run_training_in_another_process_cannot_be_resumed(app, interrupted):
    keeper = checkpoints.Keeper(interrupted)
    keeper.claim()
    at = app(run=interrupted)
    keeper.leave(ended=False)
    assert not at.exception and "being trained by another process" in said(at)
    assert not {"Resume", "Discard it"} & set(labels(at))


def test_runs_page_lists_an_interrupted_run(app, stored, interrupted):
    at = app("runs")
    assert not at.exception
    assert list(at.dataframe[0].value["state"]) == ["interrupted", "done"]
    assert "The server stopped or failed during this run" in said(at) and {
        "Open to resume it",
        "Discard it",
    } <= set(labels(at))
    at.button(key="open").click().run()
    assert at.session_state[session_keys.RUN] == interrupted


def test_damaged_checkpoint_is_named_and_others_are_listed(app, stored, interrupted):
    path = paths.home() / f"{interrupted}.checkpoint"
    path.write_bytes(path.read_bytes()[:500])
    at = app("runs")
    assert (
        not at.exception
        and rf"The checkpoint \$KD_HOME/{path.name} is damaged" in said(at)
        and len(at.dataframe[0].value) == 1
    )
    at = app(run=interrupted)
    assert not at.exception and "is damaged" in said(at) and at.button(key="start")


def test_imported_weights_are_a_run_for_every_page(app, mnist, tmp_path):
    at = app("runs")
    content = save(registry.build("mlp-30", 3).state_dict())
    at.file_uploader(key="import_file").set_value(
        ("my student.safetensors", content, "application/octet-stream")
    ).run()
    at.button(key="import").click().run()
    assert not at.exception and "my student was imported: mlp-30, test accuracy" in said(at) + " ".join(
        note.value for note in at.success
    )
    run = runs.list_runs()[0][0]
    assert run.owner == runs.owner_digest(TOKEN)
    for page in ("draw", "compare", None):
        other = app(page, run=run.id)
        assert not other.exception
    assert "was imported" in said(other)
    at.file_uploader(key="import_file").set_value(
        ("other.safetensors", content[:500], "application/octet-stream")
    ).run()
    at.button(key="import").click().run()
    assert not at.exception and "or it is damaged" in said(at) and len(runs.list_runs()[0]) == 1
