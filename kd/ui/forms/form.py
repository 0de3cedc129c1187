"""The settings of a kind of run as widgets. They are kept over page changes as they were written, right or wrong, and are in the link."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from kd.config.base import Settings
from kd.errors import UserError
from kd.training.optimizers import OPTIMIZERS
from kd.ui.runs import teachers
from kd.ui.shell import notices, session_keys
from kd.ui.shell.escape import plain


@dataclass(frozen=True)
class Form:
    """Widgets of the settings of ``cls``, in any order and place.

    Args:
        slot: the name under which they are kept, which begins the keys of their widgets too.
    """

    cls: type[Settings]
    slot: str

    @property
    def kept(self) -> dict[str, Any]:
        """What the widgets say."""
        return st.session_state[self.slot]

    def restore(self, query: Mapping[str, str]) -> bool:
        """On a session's first visit takes the settings from the link; whether it had some."""
        if self.slot in st.session_state:
            return False
        found = self.cls()
        try:
            found = self.cls.from_query({name: value for name, value in query.items() if name != "run"})
        except UserError as error:
            notices.notify("error", f"The link's settings cannot be used, so the defaults are shown. {error}")
        self.adopt(found)
        return bool(query.keys() & {spec.name for spec in dataclasses.fields(self.cls)})

    def adopt(self, config: Settings) -> None:
        """Shows ``config`` in the widgets, which must not have been drawn in this run yet."""
        made = self.kept["made"] + 1 if self.slot in st.session_state else 0
        st.session_state[self.slot] = config.to_dict() | {"made": made}

    def config(self) -> Settings | None:
        """What the widgets make, or None, and says why, where it is not valid."""
        try:
            return self._checked()
        except UserError as error:
            st.error(plain(error))
            return None

    def query(self) -> dict[str, str]:
        """The settings for the link; none where they are not valid."""
        try:
            return self._checked().to_query()
        except UserError:
            return {}

    def _checked(self) -> Settings:
        return self.cls.from_dict({name: value for name, value in self.kept.items() if name != "made"})

    # -- widgets -----------------------------------------------------------------------

    def text(self, name: str) -> None:
        self.chosen(st.text_input, name, value=self.kept[name].replace(",", ", "), max_chars=400)

    def number(self, name: str, **options: Any) -> None:
        about = self.cls.setting(name)
        self.chosen(
            st.number_input,
            name,
            value=self.kept[name],
            min_value=about["low"],
            max_value=about["high"],
            step=about["step"],
            **options,
        )

    def names(self, name: str, options: list[str], new: bool = False, **more: Any) -> None:
        chosen = [value for value in self.kept[name].split(",") if value]
        options = [*options, *(value for value in chosen if value not in options)]
        self.chosen(st.multiselect, name, options=options, default=chosen, accept_new_options=new, **more)

    def one_of(self, name: str, options: Mapping[str, str], **more: Any) -> None:
        """One of ``options``: value -> what it is called. What is kept is one of them, known or not."""
        options = options if self.kept[name] in options else {self.kept[name]: self.kept[name]} | options
        self.chosen(
            st.selectbox,
            name,
            options=list(options),
            index=list(options).index(self.kept[name]),
            format_func=options.get,
            **more,
        )

    def teacher(self) -> None:
        self.one_of("teacher", teachers.choices())

    def optimizer(self) -> None:
        self.chosen(
            st.segmented_control,
            "optimizer",
            options=list(OPTIMIZERS),
            default=self.kept["optimizer"],
            required=True,
            format_func={"adamw": "AdamW", "sgd": "SGD"}.get,
        )

    def chosen(self, kind: Any, name: str, **options: Any) -> None:
        """The widget of one setting; what it says is kept. Label and help come from the settings' class."""
        about = self.cls.setting(name)
        key = session_keys.setting(self.slot, f"{name}_{self.kept['made']}")
        if key in st.session_state:  # else a default beside it would be a second opinion
            options = {
                option: value
                for option, value in options.items()
                if option not in ("value", "default", "index")
            }
        value = kind(about["label"], key=key, help=about["help"], **options)
        self.kept[name] = (
            ",".join(value)
            if isinstance(value, list)
            else value.replace(" ", "")
            if kind is st.text_input
            else value
        )
