"""Presenter mode and replays in Streamlit's test harness."""

import pytest
from streamlit.testing.v1 import AppTest

from kd.config.distil import DistilConfig
from kd.store import replay, runs
from kd.ui.shell import present, session_keys, shared
from tests.apps import TOKEN, query, said

pytestmark = pytest.mark.app


@pytest.fixture
def recorded(app):
    """Return a finished run of this visitor that took ten seconds."""
    rows = [
        {
            "step": i,
            "epoch": i / 5,
            "seconds": float(i),
            "images_per_second": 9.0,
            "loss student soft": 1 / i,
            "validation student": 0.9,
            "whole_validation": 0.0,
        }
        for i in range(1, 11)
    ]
    return runs.save(
        runs.new_id(),
        DistilConfig(student="linear", epochs=2),
        "done",
        rows,
        {},
        {},
        runs.owner_digest(TOKEN),
    )


def shortcuts(at) -> dict[str, str]:
    return {button.label: button.proto.shortcut.upper() for button in at.button if button.proto.shortcut}


def test_presenter_mode_has_keys_and_is_in_the_link(app):
    at = app(present="1", student="linear", epochs="1")
    assert not at.exception
    keyed = shortcuts(at)
    assert {
        "Start": "S",
        "Step": "T",
        "Test digit": "D",
        "Clear": "X",
        "Replay": "L",
        "Draw": "N",
    }.items() <= keyed.items()
    assert len(set(keyed.values())) == len(keyed), "one key, one meaning"
    for letter in present.ON_DISTIL | present.ANYWHERE:
        assert f"**{letter}**" in said(at)
    assert {"present": "1", "student": "linear"}.items() <= query(at).items()


def test_keys_do_nothing_outside_presenter_mode(app):
    at = app()
    assert not shortcuts(at) and at.button(key="stage_begin")


def test_qr_code_links_the_run_and_warns_of_local_addresses(app):
    assert "make app ARGS=--server.address=0.0.0.0" in present.unreachable("http://localhost:8501/?run=1")
    assert present.unreachable("http://127.0.0.1:8501") and present.unreachable("http://[::1]:8501/")
    assert not present.unreachable("http://192.168.1.5:8501/") and not present.unreachable(
        "https://demo.example.org/?run=1"
    )


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("http://localhost:8501/demo/?run=1", "probably http://192.168.1.5:8501/demo/."),
        ("https://localhost/demo/runs", "probably https://192.168.1.5/demo/runs."),
        ("http://127.0.0.1:8501/", "probably http://192.168.1.5:8501/."),
    ],
)
def test_hint_for_phones_keeps_scheme_port_and_path(monkeypatch, address, hint):
    monkeypatch.setattr(present, "_address_in_network", lambda: "192.168.1.5")
    assert present.unreachable(address).endswith(hint)


def test_replay_is_labelled_and_needs_no_worker(app, recorded):
    at = app(replay=recorded.id)
    assert not at.exception and not at.error
    label = f"Replay of a run recorded on {replay.load(recorded.id).day}"
    assert any(label in banner.value for banner in at.warning) and any(
        label in caption.value for caption in at.caption
    )
    assert "start" not in [button.key for button in at.button]
    at.slider(key="replay_seek").set_value(4.2).run()
    player = at.session_state[session_keys.PLAYER]
    assert (player.at, player.since) == (4.2, None)
    at.button(key="replay_step").click().run()
    assert at.session_state[session_keys.PLAYER].at == 5.0
    at.segmented_control(key="replay_speed").set_value(20.0).run()
    at.button(key="replay_play").click().run()
    assert (
        at.session_state[session_keys.PLAYER].speed == 20.0
        and at.session_state[session_keys.PLAYER].since is not None
    )
    assert not at.exception and shared.manager()._worker._thread is None
    at.button(key="replay_leave").click().run()
    assert at.button(key="start") and "replay" not in query(at)


@pytest.mark.parametrize(
    "id, words",
    [("../../etc", "not the id of a run"), ("20200101-000000-0123456789abcdef", "no longer there")],
)
def test_bad_replay_link_gives_a_sentence_and_the_page_works(app, id, words):
    at = app(replay=id)
    assert not at.exception and words in said(at)
    assert at.button(key="start")


def begin_last() -> AppTest:
    """Run what key L does alone: the harness runs the bar of a multipage app only once."""

    def script() -> None:
        from kd.ui.run import replaying
        from kd.ui.shell import notices

        replaying.begin_last()
        notices.show()

    at = AppTest.from_function(script)
    at.session_state[session_keys.OWNER] = TOKEN
    return at.run()


def test_one_key_replays_the_last_finished_run(recorded):
    at = begin_last()
    assert not at.exception and at.session_state[session_keys.REPLAY] == recorded.id
    assert at.session_state[session_keys.PLAYER].since is not None, "it plays"


def test_recorded_run_is_played_without_a_finished_one(app):
    at = begin_last()
    assert not at.exception and at.session_state[session_keys.REPLAY] == runs.recorded().id


def test_presenter_gets_a_sentence_without_any_recording(app, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "RECORDED", tmp_path / "nowhere")
    at = begin_last()
    assert not at.exception and "recorded run is missing" in said(at)
