"""The route by which a browser asks again what the models answer to a drawing."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from starlette.applications import Starlette

from kd.drawing import links
from kd.ui.drawing import answers
from kd.ui.server.middleware import middleware
from kd.ui.server.routes import routes
from kd.ui.shell import shared
from tests.asgi import Client
from tests.drawings import drawn
from tests.one_run import ID, RUN, Manager
from tests.strokes import DIGITS

SEVEN = drawn(DIGITS[7])
LOGITS = {"teacher": 9.0, "student": 2.0, "control": 1.0}


@pytest.fixture
def manager(monkeypatch):
    manager = Manager()
    monkeypatch.setattr(shared, "manager", lambda: manager)
    return manager


@pytest.fixture
def asked(monkeypatch):
    """Return the pictures that the models were asked about; each says 7, with its own confidence."""
    pictures = []

    def answer(picture, snap, teacher):
        pictures.append(picture)
        return answers.Answers({role: top * torch.eye(10)[7] for role, top in LOGITS.items()}, True)

    monkeypatch.setattr(answers, "answer", answer)
    return pictures


@pytest.fixture
def client(manager, asked):
    return Client(Starlette(routes=routes(""), middleware=middleware()))


def ask(client, temperature=1.0, apart=False, **headers):
    return client.get("/" + answers.address(ID, SEVEN, temperature, apart), headers)


def test_route_answers_for_all_models_at_the_temperature(client, asked):
    told = json.loads(ask(client, temperature=4).text)
    assert (asked[0] == SEVEN).all() and told["version"] == RUN.version and told["every"] > 0
    headline = told["figures"]["chart_answers"]["headline"]
    assert [(model["role"], model["digit"]) for model in headline] == [(role, "7") for role in LOGITS]
    shares = [torch.softmax(top / 4 * torch.eye(10)[7], 0)[7] for top in LOGITS.values()]
    assert [model["share"] for model in headline] == [f"{share:.0%} at T=4" for share in shares]
    bars = {trace["name"]: trace["y"][7] for trace in told["figures"]["chart_answers"]["data"]}
    assert [bars[role] for role in LOGITS] == pytest.approx([float(share) for share in shares], abs=1e-4)


def test_route_answers_apart_for_the_draw_page(client):
    figures = json.loads(ask(client, apart=True).text)["figures"]
    assert list(figures) == ["draw_teacher", "draw_student", "draw_control"]
    assert all(len(figure["data"]) == len(figure["headline"]) == 1 for figure in figures.values())


def test_route_computes_only_for_a_new_version(client, asked, manager):
    etag = ask(client).headers["etag"]
    assert ask(client, **{"If-None-Match": etag}).status_code == 304 and len(asked) == 1
    manager.run = dataclasses.replace(RUN, version=2)
    assert ask(client, **{"If-None-Match": etag}).status_code == 200 and len(asked) == 2


def test_route_tells_the_browser_to_stop_at_the_end(client, manager):
    manager.run = dataclasses.replace(RUN, version=2, state="done")
    told = json.loads(ask(client).text)
    assert (told["every"], told["state"]) == (0, "done")


@pytest.mark.parametrize(
    "query, told",
    [
        ("", "drawing is cut off"),
        ("picture=xyz", "drawing is cut off"),
        ("picture=" + "A" * 5000, "drawing is cut off"),
        (f"picture={links.to_text(SEVEN)}&temperature=1e999", "between 1 and 20"),
        (f"picture={links.to_text(SEVEN)}&temperature=nan", "between 1 and 20"),
        (f"picture={links.to_text(SEVEN)}&temperature=hot", "between 1 and 20"),
    ],
)
def test_route_refuses_damaged_requests_in_a_sentence(client, asked, query, told):
    answer = client.get(f"/kd/answers/{ID}?{query}")
    assert answer.status_code == 400 and told in answer.text and not asked


@pytest.mark.parametrize("id", ["20260101-000000-0123456789abcdef", "..%2f..", "x"])
def test_route_of_answers_knows_only_runs_in_training(client, id):
    answer = client.get(f"/kd/answers/{id}?picture={links.to_text(SEVEN)}")
    assert answer.status_code == 404 and answer.text.startswith("No run with this id")


def test_route_of_answers_refuses_kinds_without_a_student(client, manager):
    manager.run = dataclasses.replace(RUN, kind="sweep")
    assert ask(client).status_code == 404


def test_route_of_answers_checks_the_origin(client):
    assert ask(client, Origin="http://evil.example").status_code == 403
