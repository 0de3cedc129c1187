"""The fields of a Settings class as widgets, kept when the page changes and in the link."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from kd.config.base import Settings, parts_of
from kd.errors import UserError
from kd.training.optimizers import OPTIMIZERS
from kd.ui.run import teachers
from kd.ui.shell import notices, session_keys
from kd.ui.shell.escape import plain


@dataclass(frozen=True)
class Form:
    """Widgets for the settings of one class; the page chooses which, in which order, and where.

    The session keeps the values as they were entered, valid or not, so that they survive a change of page. A
    widget takes its label, help text, range and step from its field.

    Args:
        cls: the settings.
        slot: the session key that holds the values.
        prefix: the prefix of the widgets' keys.
        part: the key within ``slot``, if one slot holds the values of several forms.
        always_valid: whether to refuse an invalid value with a notice and reset the widget, for pages that
            need valid settings at all times.
        same_keys: whether a widget keeps its key when its value is set from code. Otherwise it gets a new
            one, because Streamlit sends such a value to the browser only once, and a fragment's rerun may
            overtake it.
    """

    cls: type[Settings]
    slot: str
    prefix: str
    part: str = ""
    always_valid: bool = False
    same_keys: bool = False

    # -- values ------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether the session already has values."""
        kept = st.session_state.get(self.slot)
        return kept is not None and (not self.part or self.part in kept)

    @property
    def values(self) -> dict[str, Any]:
        """Setting -> value as it was entered. Change it to set a value without a widget."""
        kept = st.session_state[self.slot]
        return kept[self.part] if self.part else kept

    def keep(self, values: dict[str, Any]) -> None:
        """Replace the values without updating the widgets."""
        if self.part:
            st.session_state.setdefault(self.slot, {})[self.part] = values
        else:
            st.session_state[self.slot] = values

    def restore(self, query: Mapping[str, str]) -> bool:
        """Take the settings from the link on a session's first visit.

        Returns:
            Whether the link has any.
        """
        if self.begun:
            return False
        config = self.cls()
        try:
            config = self.cls.from_query({name: value for name, value in query.items() if name != "run"})
        except UserError as error:
            notices.notify("error", f"The link's settings cannot be used, so the defaults are shown. {error}")
        self.keep(config.to_dict())
        return bool(query.keys() & {spec.name for spec in dataclasses.fields(self.cls)})

    def adopt(self, config: Settings, but: Collection[str] = ()) -> None:
        """Show ``config``. Call it before any widget of this form is drawn in the current run.

        Args:
            but: settings that stay as they were, in ``config`` too. Their widgets keep their keys, because
                the visitor may have changed one of them in the same run.
        """
        self.keep(config.to_dict())
        for spec in dataclasses.fields(config):
            if spec.name not in but:
                self.renew(spec.name)

    def put(self, **changes: Any) -> None:
        """Change some settings; their widgets show the new values when they are next drawn.

        Raises:
            UserError: the settings would not be valid.
        """
        self.keep(self.checked().replace(**changes).to_dict())
        for name in changes:
            self.renew(name)

    def checked(self) -> Settings:
        """Return the settings.

        Raises:
            UserError: they are not valid.
        """
        return self.cls.from_dict(self.values)

    def config(self) -> Settings | None:
        """Return the settings; if they are invalid, show why and return None."""
        try:
            return self.checked()
        except UserError as error:
            st.error(plain(error))
            return None

    def query(self) -> dict[str, str]:
        """Return the settings as link parameters; empty if they are invalid."""
        try:
            return self.checked().to_query()
        except UserError:
            return {}

    # -- widgets -----------------------------------------------------------------------

    def widget(
        self,
        kind: Callable[..., Any],
        name: str,
        changed: Callable[[str], Any] | None = None,
        **options: Any,
    ) -> Any:
        """Draw the widget of one setting.

        Args:
            kind: the Streamlit function, such as ``st.slider``.
            name: the setting.
            changed: called with ``name`` after the visitor has changed the widget.
            options: further arguments for ``kind``. ``options`` may be a mapping, value -> text.

        Returns:
            The setting's value now.
        """
        about, key = self.cls.setting(name), self.key(name)
        value = self.values.get(name, about["default"])
        if isinstance(options.get("options"), Mapping):
            texts = options["options"]
            options |= {"options": list(texts), "format_func": lambda option: texts.get(option, option)}
        if kind is st.selectbox and value not in options["options"]:
            options["options"] = [value, *options["options"]]
        if about["low"] is not None:
            options |= {"step": about["step"]}
            # A number out of range would never leave the browser: the field shows it, and the setting keeps
            # its value. The settings themselves refuse it in a sentence.
            if kind is not st.number_input:
                options |= {"min_value": about["low"], "max_value": about["high"]}
        argument, shown = _shown(kind, value, options)
        if kind is st.multiselect:
            options["options"] = [
                *options["options"],
                *(one for one in shown if one not in options["options"]),
            ]
        if not self.same_keys:
            options[argument] = shown
        elif key not in st.session_state:
            st.session_state[key] = value if kind is st.selectbox else shown
        kind(
            about["label"],
            key=key,
            on_change=self._take,
            args=(kind, name, key, changed),
            **{"help": about["help"]} | options,
        )
        return self.values.get(name, about["default"])

    def number(self, name: str, **options: Any) -> Any:
        return self.widget(st.number_input, name, **options)

    def slider(self, name: str, **options: Any) -> Any:
        return self.widget(st.slider, name, **options)

    def text(self, name: str, **options: Any) -> Any:
        """Draw a text field for a comma-separated list of numbers."""
        return self.widget(st.text_input, name, **options)

    def teacher(self, **options: Any) -> Any:
        return self.widget(st.selectbox, "teacher", options=teachers.choices(), **options)

    def optimizer(self, **options: Any) -> Any:
        return self.widget(
            st.segmented_control,
            "optimizer",
            options=list(OPTIMIZERS),
            required=True,
            format_func={"adamw": "AdamW", "sgd": "SGD"}.get,
            **options,
        )

    def _take(
        self, kind: Callable[..., Any], name: str, key: str, changed: Callable[[str], Any] | None
    ) -> None:
        """Keep the current value of a widget, unless a callback in the same run has just set this setting."""
        if key != self.key(name) or key not in st.session_state:
            return
        value = _written(kind, st.session_state[key])
        if self.always_valid:
            try:
                self.keep(self.checked().replace(**{name: value}).to_dict())
            except UserError as error:
                notices.notify("error", str(error))
                self.renew(name)
                return
        else:
            self.values[name] = value
        if changed is not None:
            changed(name)

    # -- keys --------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """Return the key of the widget of a setting, or of a part of it."""
        times = self._renewed().get(name, 0)
        return session_keys.setting(self.prefix, name) + (f"_{times}" if times else "")

    def renew(self, name: str) -> None:
        """Make the widget show the kept value when it is next drawn, not the one that the browser has."""
        if self.same_keys:
            st.session_state.pop(self.key(name), None)
        else:
            self._renewed()[name] = self._renewed().get(name, 0) + 1

    def _renewed(self) -> dict[str, int]:
        """Setting -> how often its widget has been given a new key."""
        return st.session_state.setdefault(session_keys.renewed(self.prefix), {})


def _shown(kind: Callable[..., Any], value: Any, options: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the argument that sets a widget's value, and ``value`` in the form that it takes."""
    if kind is st.selectbox:
        return "index", options["options"].index(value)
    if kind is st.pills:
        return "default", list(value)
    if kind is st.multiselect:
        return "default", parts_of(value)
    if kind is st.segmented_control:
        return "default", value
    if kind is st.text_input:
        return "value", value.replace(",", ", ")
    return "value", value


def _written(kind: Callable[..., Any], value: Any) -> Any:
    """Return a widget's value in the form that the setting takes."""
    if kind is st.pills:
        return "".join(value)
    if kind is st.multiselect:
        return ",".join(value)
    if kind is st.text_input:
        return ",".join(parts_of(value))
    return value
