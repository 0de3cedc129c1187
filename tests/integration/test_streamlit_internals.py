"""Messages of a fragment reach the browser even if the next rerun is requested before they are sent."""

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
    """Return a function that makes a session of a page with two fragments, without a server."""
    monkeypatch.setattr(runtime, "get_instance", MagicMock())
    monkeypatch.setattr(runtime, "exists", lambda: False)
    (tmp_path / "page.py").write_text(SCRIPT)
    return lambda: AppSession(
        ScriptData(str(tmp_path / "page.py"), True), MagicMock(), ScriptCache(), None, {}
    )


async def said(session) -> SimpleNamespace:
    """Return the texts that the session sends until it is idle, and the fragment id of each text."""
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
    """Run the coroutine in a new thread, since browser tests may have an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def ended(session) -> None:
    """Wait until the script run has ended; its messages cannot be sent meanwhile."""
    session._scriptrunner._script_thread.join()


async def answered(session):
    """Return a session with unsent messages of a fragment, and the messages that it sent before."""
    page = session()
    page.request_rerun(ClientState())
    first = await said(page)
    page.request_rerun(ClientState(fragment_id=first.fragments["answer 1"]))
    ended(page)
    return page, first


def test_pending_message_is_sent_before_the_next_rerun(session):
    streamlit_internals.mend()

    async def visit():
        page, first = await answered(session)
        for _ in range(2):
            page.request_rerun(ClientState(fragment_id=first.fragments["tick"], is_auto_rerun=True))
        return (await said(page)).texts

    answer, *ticks = run(visit())
    # One tick or two: the second request may find the first running or still waiting.
    assert answer == "answer 2" and set(ticks) == {"tick"}


def test_full_rerun_replaces_pending_reruns(session):
    """Check that an older request does not undo the newer inputs of a full rerun."""
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
    """Search for attributes of Streamlit or Starlette that begin with an underscore."""
    private = re.compile(
        r"\b(?:st|runtime|streamlit|starlette)(?:\.\w+)*\._[a-z]|get_instance\(|\._storage\b"
    )
    modules = [*paths.PACKAGE.rglob("*.py"), *(paths.ROOT / "pages").glob("*.py"), paths.ROOT / "app.py"]
    using = {path.name for path in modules if private.search(path.read_text())}
    assert private.search("st.runtime._storage") and "get_instance(" in "runtime.get_instance()"
    assert using <= {"streamlit_internals.py"}
