"""The live feed: one drawing for all spectators, at the pace of the run, until it ends."""

from __future__ import annotations

import dataclasses
import gzip
import json
import threading

import pytest
from starlette.applications import Starlette

from kd.jobs.snapshot import Snapshot
from kd.ui.charts.feed import Feed, address
from kd.ui.server import feed as route
from kd.ui.server.middleware import middleware
from kd.ui.server.routes import routes
from kd.ui.shell import shared
from tests.asgi import Client
from tests.one_run import ID, RUN, Manager


class Drawn:
    """Draw a snapshot as a short text and count the drawings."""

    def __init__(self) -> None:
        self.times = 0
        self.threads: set[str] = set()

    def __call__(self, snap: Snapshot) -> bytes:
        self.times += 1
        self.threads.add(threading.current_thread().name)
        return json.dumps(f"{snap.state} {snap.version}").encode()


@pytest.fixture
def clock(monkeypatch):
    """Return the time in a list, which tests change."""
    now = [1000.0]
    monkeypatch.setattr("kd.ui.charts.feed.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def manager():
    return Manager()


@pytest.fixture
def drawn():
    return Drawn()


@pytest.fixture
def feed(manager, drawn):
    return Feed(lambda id: manager.snapshot(id, counts=False), drawn)


def text(message) -> str:
    return json.loads(gzip.decompress(message.content))


def test_feed_follows_a_run_to_its_end(feed, manager, clock):
    assert text(feed.newest(ID)) == "running 1"
    manager.run = dataclasses.replace(RUN, version=2)
    clock[0] += RUN.pace
    assert text(feed.newest(ID)) == "running 2"
    manager.run = dataclasses.replace(RUN, version=3, state="done")
    clock[0] += RUN.pace
    assert text(feed.newest(ID)) == "done 3"
    clock[0] += 600
    assert text(feed.newest(ID)) == "done 3", "browsers that slept need the last message"


def test_feed_is_drawn_once_for_all_and_at_most_twice_per_pace(feed, manager, drawn, clock):
    for version in range(20):
        manager.run = dataclasses.replace(RUN, version=version)
        feed.newest(ID)
    assert drawn.times == 1
    clock[0] += RUN.pace / 2
    for _ in range(20):
        feed.newest(ID)
    assert drawn.times == 2


def test_feed_is_not_drawn_again_where_nothing_is_new(feed, drawn, clock):
    first = feed.newest(ID)
    clock[0] += RUN.pace
    assert feed.fresh(ID) is None and feed.newest(ID).etag == first.etag
    assert feed.fresh(ID) and drawn.times == 1


def test_feed_reports_a_new_pace(feed, manager, drawn, clock):
    feed.newest(ID)
    manager.run = dataclasses.replace(RUN, viewers=50)
    clock[0] += RUN.pace
    feed.newest(ID)
    assert drawn.times == 2


def test_feed_returns_old_message_while_another_thread_draws(manager, clock):
    may, drawing = threading.Event(), threading.Event()

    def slowly(snap: Snapshot) -> bytes:
        if snap.version == 2:
            drawing.set()
            assert may.wait(30)
        return str(snap.version).encode()

    feed = Feed(lambda id: manager.snapshot(id, counts=False), slowly)
    feed.newest(ID)
    manager.run = dataclasses.replace(RUN, version=2)
    clock[0] += RUN.pace
    other = threading.Thread(target=feed.newest, args=(ID,))
    other.start()
    assert drawing.wait(30)
    assert text(feed.newest(ID)) == 1
    may.set()
    other.join(30)
    assert text(feed.newest(ID)) == 2


def test_feed_forgets_runs_that_are_unknown(feed, manager, clock):
    feed.newest(ID)
    manager.run = None
    clock[0] += RUN.pace
    assert feed.newest(ID) is None and feed.newest("another") is None
    assert not feed._messages and not feed._drawing


def test_failed_drawing_leaves_the_feed_usable(manager, clock):
    broken = [True]

    def draw(snap: Snapshot) -> bytes:
        if broken.pop():
            raise ValueError("a defect")
        return b"1"

    feed = Feed(lambda id: manager.snapshot(id, counts=False), draw)
    with pytest.raises(ValueError, match="a defect"):
        feed.newest(ID)
    broken.append(False)
    assert feed.newest(ID)


@pytest.fixture
def client(manager, drawn, monkeypatch):
    """Return a client of the route, which serves the run of the manager above."""
    monkeypatch.setattr(shared, "manager", lambda: manager)
    monkeypatch.setattr("kd.ui.run.curves.feed_message", drawn)
    route.feed.cache_clear()
    yield Client(Starlette(routes=routes(""), middleware=middleware()))
    route.feed.cache_clear()


def test_route_serves_gzipped_json_with_an_etag(client):
    answer = client.get(f"/{address(ID)}")
    assert answer.status_code == 200 and json.loads(answer.text) == "running 1"
    assert answer.headers["content-encoding"] == "gzip" and answer.headers["cache-control"] == "no-cache"
    again = client.get(f"/{address(ID)}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and not again.content


def test_route_unpacks_for_clients_without_gzip(client):
    answer = client.get(f"/{address(ID)}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers and json.loads(answer.text) == "running 1"


@pytest.mark.parametrize("id", ["20260101-000000-0123456789abcdef", "..%2f..", "x"])
def test_route_answers_404_for_unknown_runs(client, id):
    answer = client.get(f"/{address(id)}")
    assert answer.status_code == 404 and answer.text.startswith("No run with this id")


def test_route_serves_only_runs_that_the_distil_page_shows(client, manager):
    manager.run = dataclasses.replace(RUN, kind="sweep")
    assert client.get(f"/{address(ID)}").status_code == 404


def test_route_draws_in_a_thread_and_answers_from_its_cache(client, drawn, monkeypatch):
    client.get(f"/{address(ID)}")
    assert drawn.threads and all(name.startswith("AnyIO worker") for name in drawn.threads)
    monkeypatch.setattr(route, "_newest", lambda id: pytest.fail("no thread is needed for a fresh message"))
    assert client.get(f"/{address(ID)}").status_code == 200


def test_route_lets_presenters_rooms_watch(client, monkeypatch):
    """Serve a run to anyone with its id, as the pages do."""
    monkeypatch.setenv("KD_PRESENTER_PASSWORD", "long enough")
    assert client.get(f"/{address(ID)}").status_code == 200


def test_route_checks_origin(client):
    assert client.get(f"/{address(ID)}", headers={"Origin": "http://evil.example"}).status_code == 403
