"""The run that a page shows: find it from the link, start it, control it and follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from kd import permissions
from kd.config.base import Settings
from kd.config.kind import Kind
from kd.config.kinds import KINDS
from kd.errors import UserError
from kd.jobs.snapshot import Snapshot
from kd.ui.charts.watch import watch
from kd.ui.run import progress, snapshots, teachers, titles
from kd.ui.shell import notices, present, session_keys, shared, visitor
from kd.ui.shell.escape import plain


@dataclass(frozen=True)
class RunView:
    """The run that one part of the app shows.

    Args:
        slot: the session key that holds the run's id.
        prefix: the prefix of the buttons' keys; empty on the Distil page, where they have shortcuts.
        shows: whether runs of a kind can be shown.
        noun: what such a run is called in a sentence, such as "a sweep".
        parameter: the link's parameter that holds the run's id.
        elsewhere: returns the message for a link to a kind of run that cannot be shown here.
    """

    slot: str
    prefix: str
    shows: Callable[[Kind], bool]
    noun: str
    parameter: str = "run"
    elsewhere: Callable[[Kind], str] = lambda kind: (
        "This link points to a different kind of run. Open it from the Runs page."
    )

    # -- which run ---------------------------------------------------------------------

    def find(self) -> Snapshot | None:
        """Return the run that this visitor sees; if it cannot be shown, show why and return None."""
        if self.slot == session_keys.RUN:
            id = snapshots.shown_run()
        else:
            id = st.session_state.setdefault(self.slot, st.query_params.get(self.parameter))
        try:
            snap = snapshots.find(id)
            if snap is not None and not self.shows(KINDS[snap.kind]):
                raise UserError(self.elsewhere(KINDS[snap.kind]))
            return snap
        except UserError as error:
            st.error(plain(error))
            st.session_state[self.slot] = None
            return None

    def brings_settings(self, snap: Snapshot | None) -> bool:
        """Whether the page shows this run for the first time, so that the widgets must adopt its settings."""
        if snap is None or st.session_state.get(self.key("adopted")) == snap.id:
            return False
        self.keep_settings(snap.id)
        return True

    def keep_settings(self, id: str | None) -> None:
        """Keep the widgets' own values although the page shows this run."""
        st.session_state[self.key("adopted")] = id

    @staticmethod
    def mine(snap: Snapshot | None) -> bool:
        """Whether the run is active and belongs to this visitor."""
        return snap is not None and snap.active and snap.mine

    @staticmethod
    def interrupted(snap: Snapshot | None) -> bool:
        """Whether this visitor can resume the run from its checkpoint."""
        return snap is not None and snap.mine and snap.state == "interrupted" and not snap.saved

    # -- commands ----------------------------------------------------------------------

    def start(self, config: Settings, one_step: bool = False) -> None:
        """Start a run, or queue it; with ``one_step`` it pauses after its first step."""
        try:
            id = shared.manager().start(config, visitor.token(), one_step)
            if one_step:
                shared.manager().step(id, visitor.token())
            st.session_state[self.slot] = id
            self.keep_settings(id)
            if doubt := teachers.doubt(config):
                notices.notify("warning", doubt)
            if self.slot == session_keys.RUN and self.prefix:  # the Distil page shows its settings
                st.session_state.pop(session_keys.ADOPTED, None)
        except UserError as error:
            notices.notify("error", str(error))

    def command(self, command: Callable[..., None], *arguments: Any) -> None:
        """Call a command of the job manager, such as ``pause``, on the run."""
        try:
            command(st.session_state[self.slot], visitor.token(), *arguments)
        except UserError as error:
            notices.notify("error", str(error))

    def forget(self) -> None:
        """Remove the run from the page; stop it if it is active, and keep it if it has finished an epoch."""
        snap = shared.manager().snapshot(st.session_state.get(self.slot) or "", visitor.token())
        if self.mine(snap):
            self.command(shared.manager().reset)
        st.session_state[self.slot] = None

    # -- buttons -----------------------------------------------------------------------

    def key(self, name: str) -> str:
        """Return the session key of a button or another value of this view."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def _shortcut(self, letter: str) -> str | None:
        return None if self.prefix else present.key(letter)

    def buttons(
        self,
        config: Settings | None,
        snap: Snapshot | None,
        continuation: Settings | None = None,
        stop: str = "",
    ) -> None:
        """Draw Start for ``config``, then Pause or Resume, and Stop.

        Args:
            continuation: settings of a run that continues a stopped one, if that is possible.
            stop: the help text of Stop.
        """
        with st.container(horizontal=True):
            self.start_button(config, snap)
            self.pause_button(snap, continuation)
            self.stop_button(snap, stop)

    def start_button(self, config: Settings | None, snap: Snapshot | None) -> None:
        st.button(
            "Start",
            key=self.key("start"),
            type="primary",
            icon=":material/play_arrow:",
            disabled=config is None or self.mine(snap),
            on_click=self.start,
            args=(config,),
        )

    def pause_button(self, snap: Snapshot | None, continuation: Settings | None = None) -> None:
        """Draw Pause, or Resume if the run is paused, is interrupted or can be continued."""
        if self.interrupted(snap) or (self.mine(snap) and snap.state == "paused"):
            self.resume_button()
        elif continuation is not None:
            st.button(
                "Resume",
                key=self.key("continue"),
                icon=":material/play_arrow:",
                on_click=self.start,
                args=(continuation,),
                help="Starts a new run with the same settings; finished trainings are kept.",
            )
        else:
            st.button(
                "Pause",
                key=self.key("pause"),
                icon=":material/pause:",
                shortcut=self._shortcut("P"),
                disabled=not self.mine(snap),
                on_click=self.command,
                args=(shared.manager().pause,),
            )

    def resume_button(self, icon: str = ":material/play_arrow:") -> None:
        st.button(
            "Resume",
            key=self.key("resume"),
            type="secondary" if self.prefix else "primary",
            icon=icon,
            shortcut=self._shortcut("P"),
            on_click=self.command,
            args=(shared.manager().resume,),
        )

    def stop_button(self, snap: Snapshot | None, help: str) -> None:
        st.button(
            "Stop",
            key=self.key("stop"),
            icon=":material/stop:",
            disabled=not self.mine(snap) and not self._stoppable(snap),
            on_click=self.command,
            args=(shared.manager().stop,),
            help=help,
        )

    @staticmethod
    def _stoppable(snap: Snapshot | None) -> bool:
        """Whether this visitor may stop the run as the presenter."""
        return snap is not None and snap.active and permissions.presenter(visitor.digest())

    def save_button(self, snap: Snapshot) -> None:
        """Draw "Save again" if a finished run of this visitor could not be stored."""
        if snap.mine and not snap.saved and snap.state in ("done", "stopped") and snap.rows:
            st.button(
                "Save again",
                key=self.key("save_again"),
                on_click=self.command,
                args=(shared.manager().save_again,),
            )

    # -- what it shows -----------------------------------------------------------------

    def head(self, snap: Snapshot) -> None:
        """Show the run's title, how it ended, and who controls it."""
        with st.container():  # a message that appears must not shift what is below
            st.caption(titles.title(snap))
            progress.outcome(snap)
            self.watching(snap)
            self.save_button(snap)

    def watching(self, snap: Snapshot) -> None:
        """Tell spectators that somebody else controls the run."""
        if not snap.active or snap.mine:
            return
        if self._stoppable(snap):
            st.info(
                f"You are watching {self.noun} that somebody else started. As the presenter you can stop it."
            )
            return
        own = ""
        if not self.prefix and permissions.allowed(visitor.digest()):
            own = " Press Start for one of your own."
        st.info(
            f"You are watching {self.noun} that somebody else started; only they can pause or stop it.{own}"
        )

    def follow(
        self,
        snap: Snapshot,
        draw: Callable[[Snapshot], Any],
        spectate: Callable[[Snapshot], Any] | None = None,
        changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """Show progress, and keep calling ``draw`` with the run's newest snapshot while it trains.

        Args:
            spectate: called instead, for spectators whose browsers follow the live feed.
            changed: returns whether the whole page must be rerun.
        """

        def live() -> None:
            # Each element here adds to the cost of every update of every viewer.
            try:
                now = snapshots.find(snap.id) if snap.active else snap
            except UserError as error:
                notices.notify("error", str(error))
                st.session_state[self.slot] = None
                st.rerun()
            if (now.state, now.saved) != (snap.state, snap.saved) or changed():
                st.rerun()
            if spectate is not None and now.followed:
                spectate(now)
            else:
                progress.bar(now)
                draw(now)

        watch(snap, live, spectate is not None and snap.followed)
