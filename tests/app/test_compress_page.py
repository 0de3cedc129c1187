"""The Compress page in Streamlit's test harness."""

import re

import pytest

from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.experiments.distil import Distillation
from kd.store import runs
from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, query, said
from tests.helpers import small_teacher, wait_until

pytestmark = pytest.mark.app
PAGE = "compress"


def shown(at) -> CompressConfig:
    return CompressConfig.from_dict(at.session_state[session_keys.COMPRESS])


def slider(at, name: str):
    return next(found for found in at.slider if found.label == CompressConfig.setting(name)["label"])


def stored_student(mnist) -> runs.Run:
    config = DistilConfig(student="mlp-30", epochs=1, batch_size=100)
    experiment = Distillation(config, mnist, small_teacher())
    *_, last = experiment.records()
    return runs.save(
        runs.new_id(),
        config,
        "done",
        [last.row()],
        experiment.trained,
        experiment.measures(last),
        runs.owner_digest(TOKEN),
    )


def metrics(at) -> dict[str, tuple[str, str]]:
    return {metric.label: (metric.value, metric.delta) for metric in at.metric}


def test_shipped_teacher_is_offered_without_a_student(app):
    at = app(PAGE)
    assert not at.exception and not at.error
    assert "There is no student yet" in said(at)
    assert shown(at).network == "cnn" and query(at) == {"network": "cnn"}
    assert at.button(key="recover").disabled is False


def test_sliders_show_the_compressed_size_at_once(app, mnist):
    run = stored_student(mnist)
    at = app(PAGE)
    assert not at.exception and not at.error
    assert shown(at).network == run.id  # the newest student, with its control
    assert metrics(at)["Size of the file"] == (
        "47 KB",
        "-50%",
    )  # 15 x 785 + 16 x 10 weights of 4 bytes, and the file's head
    slider(at, "neurons").set_value(0).run()
    assert metrics(at)["Size of the file"][0] == "93 KB" and "Nothing is removed yet" in said(at)
    assert at.button(key="recover").disabled
    slider(at, "weights").set_value(90).run()
    assert not at.exception
    assert metrics(at)["Size of the file"] == ("93 KB", "+0%")
    assert "the file is as large as before (90% zeros; the zipped file is" in said(at)
    assert query(at) == {"network": run.id, "neurons": "0", "weights": "90"}


def test_int8_shows_its_file_size_and_latency(app, mnist):
    stored_student(mnist)
    at = app(PAGE, neurons="0", int8="static")
    assert not at.exception and not at.error
    told = re.search(
        r"\*\*int8 static\*\*: the file is (\d\d)% of its previous size; "
        r"the network is (as fast|[\d.e+]+ times)",
        said(at),
    )
    assert told and 25 <= int(told[1]) < 30


def test_fine_tuning_is_followed_and_its_stages_are_stored(app, mnist):
    run = stored_student(mnist)
    at = app(PAGE, neurons="60", weights="40", epochs="1", labels="20")
    at.button(key="recover").click().run()
    assert not at.exception
    id = at.session_state[session_keys.COMPRESS_RUN]
    wait_until(lambda: not shared.manager().snapshot(id, TOKEN).active, "the end of the fine-tuning", 120)
    at.run()
    assert not at.exception and not at.error
    kept = runs.load(id)
    assert (
        kept.kind == "compress"
        and kept.config.network == run.id
        and kept.models == ("student", "control", "alone")
    )
    assert "fine-tuned with the teacher" in said(at) and "the network that was never distilled" in said(at)
    assert [line["network"] for line in at.dataframe[-1].value.to_dict("records")][:2] == [
        "distilled, original",
        "distilled, compressed",
    ]
    assert query(at)["run"] == id

    again = app(PAGE, run=id)  # another session finds it by its link, settings and all
    assert not again.exception and not again.error
    assert shown(again) == kept.config
    moved = app(PAGE, run=id, network=run.id, neurons="70")  # a link's own settings stay
    assert shown(moved).neurons == 70 and "fine-tuned with the teacher" in said(moved)


def test_other_pages_accept_a_compressed_network(app, mnist):
    stored_student(mnist)
    at = app(PAGE, epochs="1")
    at.button(key="recover").click().run()
    id = at.session_state[session_keys.COMPRESS_RUN]
    wait_until(lambda: not shared.manager().snapshot(id, TOKEN).active, "the end of the fine-tuning", 120)
    for page in ("runs", "draw", "compare", "distil"):
        at = app(page, **({"run": id} if page in ("distil", "draw") else {}))
        assert not at.exception, page
        assert not at.error or page == "distil"
    assert "the Compress page shows it" in said(at)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"neurons": "120"}, "must be between 0 and 99"),
        ({"int8": "int2"}, "int8 must be one of off, dynamic, static"),
        ({"network": "nobody"}, "no network called 'nobody'"),
        ({"run": "20200101-000000-0123456789abcdef"}, "no longer there"),
    ],
)
def test_bad_link_gives_one_sentence(app, bad, words):
    at = app(PAGE, **bad)
    assert not at.exception
    assert words in said(at)


def test_double_click_starts_one_fine_tuning(app, mnist):
    stored_student(mnist)
    at = app(PAGE, epochs="20")
    at.button(key="recover").click().run()
    assert at.button(key="recover").disabled
    at.button(key="compress_stop").click().run()
    assert not at.exception
