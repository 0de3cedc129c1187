"""The run of some kind that a page shows: found by the link, started, paused, stopped and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import streamlit as st

from kd.config.base import Settings
from kd.errors import UserError
from kd.jobs.snapshot import Snapshot
from kd.ui.charts.watch import watch
from kd.ui.runs import progress, snapshots, titles
from kd.ui.shell import notices, shared, visitor
from kd.ui.shell.escape import plain


@dataclass(frozen=True)
class Running:
    """The run on show.

    Args:
        slot: where the session keeps its id.
        prefix: how the keys of its buttons begin.
        kinds: names of the kinds of run that can be shown.
        noun: what it is called in sentences, such as "a sweep".
    """

    slot: str
    prefix: str
    kinds: Collection[str]
    noun: str

    def on_show(self) -> Snapshot | None:
        """The run that this visitor sees, or None."""
        id = st.session_state.setdefault(self.slot, st.query_params.get("run"))
        try:
            snap = snapshots.find(id)
            if snap is not None and snap.kind not in self.kinds:
                raise UserError(
                    "The link's run is of another kind than this page shows; its own page is found by Runs."
                )
            return snap
        except UserError as error:
            st.error(plain(error))
            st.session_state[self.slot] = None
            return None

    def brings(self, snap: Snapshot | None) -> bool:
        """Whether the run has just come on show, so that its settings are to be shown."""
        if snap is None or st.session_state.get(self.key("adopted")) == snap.id:
            return False
        self.keep_settings(snap.id)
        return True

    def keep_settings(self, id: str | None) -> None:
        """The settings that the widgets show are the visitor's own, and stay beside this run."""
        st.session_state[self.key("adopted")] = id

    def start(self, config: Settings) -> None:
        try:
            st.session_state[self.slot] = shared.manager().start(config, visitor.token())
            self.keep_settings(st.session_state[self.slot])
        except UserError as error:
            notices.notify("error", str(error))

    def command(self, what: Callable[[str, str], None]) -> None:
        try:
            what(st.session_state[self.slot], visitor.token())
        except UserError as error:
            notices.notify("error", str(error))

    # -- buttons ---------------------------------------------------------------------

    def key(self, name: str) -> str:
        return f"{self.prefix}_{name}"

    def mine(self, snap: Snapshot | None) -> bool:
        """Whether it is under way and this visitor's."""
        return snap is not None and snap.active and snap.mine

    def buttons(
        self, config: Settings | None, snap: Snapshot | None, goes_on: Settings | None = None, kept: str = ""
    ) -> None:
        """Start of ``config``, then Pause or Resume, and Stop.

        Args:
            goes_on: what goes on from a run that was stopped, where that can be.
            kept: what Stop leaves.
        """
        with st.container(horizontal=True):
            st.button(
                "Start",
                key=self.key("start"),
                type="primary",
                icon=":material/play_arrow:",
                disabled=self.mine(snap) or config is None,
                on_click=self.start,
                args=(config,),
            )
            self.pause(snap, goes_on)
            self.stop(snap, kept)

    def pause(self, snap: Snapshot | None, goes_on: Settings | None = None) -> None:
        manager, mine = shared.manager(), self.mine(snap)
        if (
            mine
            and snap.state == "paused"
            or snap is not None
            and snap.mine
            and snap.state == "interrupted"
            and not snap.saved
        ):
            st.button(
                "Resume",
                key=self.key("resume"),
                icon=":material/play_arrow:",
                on_click=self.command,
                args=(manager.resume,),
            )
        elif goes_on is not None:
            st.button(
                "Resume",
                key=self.key("continue"),
                icon=":material/play_arrow:",
                on_click=self.start,
                args=(goes_on,),
                help="A new run with the same settings, which takes over what has ended.",
            )
        else:
            st.button(
                "Pause",
                key=self.key("pause"),
                icon=":material/pause:",
                disabled=not mine,
                on_click=self.command,
                args=(manager.pause,),
            )

    def stop(self, snap: Snapshot | None, kept: str) -> None:
        st.button(
            "Stop",
            key=self.key("stop"),
            icon=":material/stop:",
            disabled=not self.mine(snap),
            on_click=self.command,
            args=(shared.manager().stop,),
            help=kept,
        )

    # -- what it shows -----------------------------------------------------------------

    def show(
        self,
        snap: Snapshot,
        draw: Callable[[Snapshot], Any],
        news: Callable[[], bool] = lambda: False,
        between: Callable[[], Any] = lambda: None,
    ) -> None:
        """Its title, how it ended, and what ``draw`` makes of it as it is now, again and again while it trains.

        Args:
            news: whether the whole page is to be drawn anew.
            between: draws what stands above what moves.
        """

        def live() -> None:
            now = snapshots.find(snap.id) if snap.active else snap
            if (now.state, now.saved) != (snap.state, snap.saved) or news():
                st.rerun()
            progress.bar(now)
            draw(now)

        with st.container():  # a message that comes must not shift what is below
            st.caption(titles.title(snap))
            progress.outcome(snap)
            if snap.active and not snap.mine:
                st.info(
                    f"You are watching {self.noun} that somebody else started; only they can pause or stop it."
                )
            if snap.mine and not snap.saved and snap.state in ("done", "stopped") and snap.rows:
                st.button(
                    "Save again",
                    key=self.key("save"),
                    on_click=self.command,
                    args=(shared.manager().save_again,),
                )
        between()
        watch(snap, live)
