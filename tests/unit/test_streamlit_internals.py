"""The messages of a fragment reach the browser, even if the next run is requested before they are sent."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from streamlit import runtime
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.script_data import ScriptData
from streamlit.runtime.scriptrunner.script_cache import ScriptCache

from kd import paths
from kd.ui import streamlit_internals

SCRIPT = """
import streamlit as st

@st.fragment
def answer():
    st.session_state.times = st.session_state.get("times", 0) + 1
    st.text(f"answer {st.session_state.times}")

@st.fragment
def tick():
    st.text("tick")

st.text("the page")
answer()
tick()
"""


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Makes a session of a page with two fragments; as a server has it, but for the server."""
    monkeypatch.setattr(runtime, "get_instance", MagicMock())
    monkeypatch.setattr(runtime, "exists", lambda: False)
    (tmp_path / "page.py").write_text(SCRIPT)
    return lambda: AppSession(
        ScriptData(str(tmp_path / "page.py"), True), MagicMock(), ScriptCache(), None, {}
    )


async def said(session) -> SimpleNamespace:
    """What the session sends until it rests: texts, and the ids of the fragments that they are in, by text."""
    found = SimpleNamespace(texts=[], fragments={})
    async with asyncio.timeout(30):
        while session._scriptrunner is not None or not session._browser_queue.is_empty():
            await asyncio.sleep(0.01)
            for message in session.flush_browser_queue():
                if message.delta.new_element.WhichOneof("type") == "text":
                    found.texts.append(message.delta.new_element.text.body)
                    found.fragments[found.texts[-1]] = message.delta.fragment_id
    return found


def run(coroutine):
    """In a thread of its own: the browser's tests may have a loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def ended(session) -> None:
    """Waits until the run has ended, while nothing that it said can be sent."""
    session._scriptrunner._script_thread.join()


async def answered(session):
    """A page whose fragment has just answered, which cannot be sent yet; and what the page said before."""
    page = session()
    page.request_rerun(ClientState())
    first = await said(page)
    page.request_rerun(ClientState(fragment_id=first.fragments["answer 1"]))
    ended(page)
    return page, first


def test_an_answer_is_sent_though_the_next_tick_is_asked_for_before(session):
    streamlit_internals.mend()

    async def visit():
        page, first = await answered(session)
        for _ in range(2):
            page.request_rerun(ClientState(fragment_id=first.fragments["tick"], is_auto_rerun=True))
        return (await said(page)).texts

    answer, *ticks = run(visit())
    assert answer == "answer 2" and set(ticks) == {
        "tick"
    }  # one or two: the second may find the first at work, or waiting


def test_the_whole_page_replaces_what_waits(session):
    """It knows of newer inputs, which an older request must not undo."""
    streamlit_internals.mend()

    async def visit():
        page, first = await answered(session)
        page.request_rerun(ClientState(fragment_id=first.fragments["tick"], is_auto_rerun=True))
        page.request_rerun(ClientState())
        return (await said(page)).texts

    assert run(visit()) == ["the page", "answer 3", "tick"]


def test_mend_warns_when_streamlit_is_built_differently(monkeypatch, caplog):
    monkeypatch.delattr(AppSession, "_create_scriptrunner")
    streamlit_internals.mend.cache_clear()
    streamlit_internals.mend()
    streamlit_internals.mend.cache_clear()
    assert "does not fit this version of Streamlit" in caplog.text


def test_no_other_module_uses_private_names_of_streamlit():
    """Attributes that begin with an underscore, on something imported from Streamlit or Starlette."""
    private = re.compile(
        r"\b(?:st|runtime|streamlit|starlette)(?:\.\w+)*\._[a-z]|get_instance\(|\._storage\b"
    )
    modules = [*paths.PACKAGE.rglob("*.py"), *(paths.ROOT / "pages").glob("*.py"), paths.ROOT / "app.py"]
    using = {path.name for path in modules if private.search(path.read_text())}
    assert private.search("st.runtime._storage") and "get_instance(" in "runtime.get_instance()"
    assert using <= {"streamlit_internals.py"}
