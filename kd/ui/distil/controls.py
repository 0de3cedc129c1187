"""The settings of a run as widgets. Labels, ranges and help come from the config classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import streamlit as st

from kd.config.base import MAX_TEACHERS, Config
from kd.config.distil import INITIALIZATIONS, LIVE_SETTINGS, METHOD_SETTINGS, SCHEME_SETTINGS, DistilConfig
from kd.config.presets import PRESETS
from kd.config.schemes import SCHEMES
from kd.config.teacher import TeacherConfig
from kd.data.augmentation import AUGMENTATIONS
from kd.data.task import MNIST
from kd.errors import UserError
from kd.models import registry
from kd.objectives import METHODS
from kd.training.optimizers import OPTIMIZERS
from kd.ui.runs import teachers
from kd.ui.shell import notices, session_keys, shared, url_state
from kd.ui.shell.escape import plain

CONFIGS: dict[str, type[Config]] = {"distil": DistilConfig, "teacher": TeacherConfig}
OWN = "your own"
OWN_START = (64,)


def restore() -> str:
    """On a session's first run takes the settings from the link; returns the mode, "distil" or "teacher"."""
    if session_keys.SETTINGS in st.session_state:
        return st.session_state[session_keys.MODE]
    mode = "teacher" if st.query_params.get("mode") == "teacher" else "distil"
    settings = {name: config().to_dict() for name, config in CONFIGS.items()}
    try:
        settings[mode] = CONFIGS[mode].from_query(st.query_params.to_dict()).to_dict()
    except UserError as error:
        notices.notify("error", f"The link's settings cannot be used, so the defaults are shown. {error}")
    st.session_state[session_keys.SETTINGS] = settings
    st.session_state[session_keys.MODE] = mode
    return mode


def adopt(config: Config, mode: str) -> None:
    """Shows ``config`` in the widgets, which must not have been drawn in this run yet."""
    st.session_state[session_keys.SETTINGS][mode] = config.to_dict()
    for spec in dataclasses.fields(config):
        st.session_state.pop(session_keys.setting(mode, spec.name), None)
    for name in ("more_teachers", "layers", *(f"width{i}" for i in range(registry.MAX_LAYERS))):
        st.session_state.pop(session_keys.setting(mode, name), None)


def show(config: DistilConfig) -> None:
    """Sees that the Distil page begins with ``config`` and without a run."""
    st.session_state.setdefault(
        session_keys.SETTINGS, {name: cls().to_dict() for name, cls in CONFIGS.items()}
    )
    st.session_state[session_keys.MODE], st.session_state[session_keys.RUN] = "distil", None
    adopt(config, "distil")


def show_run(id: str) -> None:
    """Sees that the Distil page shows a run, with its settings."""
    st.session_state[session_keys.RUN], st.session_state[session_keys.REPLAY] = id, None
    st.session_state.pop(session_keys.ADOPTED, None)


def _apply_preset() -> None:
    preset = PRESETS.get(st.session_state[session_keys.PRESET])
    if preset is not None:
        kept = st.session_state[session_keys.SETTINGS]["distil"]
        adopt(DistilConfig(seed=kept["seed"], teacher=kept["teacher"], **preset), "distil")


def settings(mode: str, locked: bool, on_live_change: Callable[[str], None]) -> Config | None:
    """The widgets of all settings; returns the config that they make, or None where it is not valid.

    Args:
        locked: a run of this visitor is under way, so that only what may change live can be moved.
        on_live_change: told the setting's name when it was moved during a run.
    """
    kept: dict[str, Any] = st.session_state[session_keys.SETTINGS][mode]
    cls = CONFIGS[mode]

    def widget(kind: Callable, name: str, **options: Any) -> Any:
        key = session_keys.setting(mode, name)
        if key not in st.session_state:
            value = kept.get(name, cls.setting(name)["default"])
            st.session_state[key] = list(value) if kind is st.pills else value
        live = name in LIVE_SETTINGS and locked
        about = cls.setting(name)
        return kind(
            about["label"],
            key=key,
            help=about["help"],
            disabled=locked and not live,
            on_change=on_live_change if live else None,
            args=(name,) if live else None,
            **options,
        )

    def number(kind: Callable, name: str, **options: Any) -> Any:
        about = cls.setting(name)
        return widget(
            kind, name, min_value=about["low"], max_value=about["high"], step=about["step"], **options
        )

    values, told = dict(kept), st.container()  # what is wrong is told first, where it is seen
    if mode == "distil":
        st.selectbox(
            "Preset",
            list(PRESETS),
            index=None,
            placeholder="Start from a preset",
            key=session_keys.PRESET,
            on_change=_apply_preset,
            disabled=locked,
            help="Fills in the settings below. The seed and the teacher stay.",
        )
        values["student"] = _student(kept["student"], locked)
        values["teacher"] = _teacher(kept["teacher"], locked)
        refusal = _refusal(values["student"], values["teacher"])
        if kept["initialization"] == "teacher" or not refusal:
            values["initialization"] = widget(
                st.segmented_control,
                "initialization",
                options=INITIALIZATIONS,
                required=True,
                width="stretch",
                format_func={"random": "Random", "teacher": "The teacher's"}.get,
            )
        values["scheme"] = widget(
            st.selectbox, "scheme", options=list(SCHEMES), format_func=lambda name: SCHEMES[name].title
        )
        scheme = SCHEMES[values["scheme"]]
        if scheme.name != "teacher":
            st.caption(f"{scheme.purpose} {scheme.paper}.")
        values = {name: value for name, value in values.items() if name not in SCHEME_SETTINGS}
        if "assistant" in scheme.settings:
            values["assistant"] = widget(st.selectbox, "assistant", options=list(registry.ARCHITECTURES))
        if "generations" in scheme.settings:
            values["generations"] = number(st.number_input, "generations")
        values["method"] = widget(
            st.selectbox, "method", options=list(METHODS), format_func=lambda name: METHODS[name].title
        )
        method = METHODS[values["method"]]
        st.caption(
            f"{method.purpose} {method.paper}."
            + ("" if method.teacher and scheme.teacher else " The teacher above is only compared with.")
        )
        values = {name: value for name, value in values.items() if name not in METHOD_SETTINGS}
        for name in method.settings:
            values[name] = number(
                st.slider, name, format=f"%.{len(str(cls.setting(name)['step']).partition('.')[2])}f"
            )
        if kept["schedule"]:
            st.caption(
                "Schedule: "
                + "; ".join(
                    f"after step {step:,} {name} → {value:g}" for step, name, value in kept["schedule"]
                )
            )
            st.button(
                "Forget the schedule",
                key=session_keys.setting(mode, "no_schedule"),
                on_click=kept.update,
                kwargs={"schedule": []},
                disabled=locked,
            )
        with st.expander(
            "Transfer set",
            expanded=any(
                kept[name] != cls.setting(name)["default"]
                for name in ("omitted", "labels", "label_noise", "augmentation")
            ),
        ):
            values["omitted"] = "".join(
                widget(st.pills, "omitted", options=MNIST.class_names, selection_mode="multi")
            )
            values["labels"] = number(st.number_input, "labels")
            values["label_noise"] = number(st.slider, "label_noise", format="percent")
            values["augmentation"] = widget(st.selectbox, "augmentation", options=list(AUGMENTATIONS))
    else:
        values["teacher"] = widget(st.selectbox, "teacher", options=list(reversed(registry.ARCHITECTURES)))
        values["augmentation"] = widget(st.selectbox, "augmentation", options=list(AUGMENTATIONS))
    values["epochs"] = number(st.number_input, "epochs")
    with st.expander("Optimizer and seed"):
        values["batch_size"] = number(st.number_input, "batch_size")
        values["optimizer"] = widget(
            st.segmented_control,
            "optimizer",
            options=list(OPTIMIZERS),
            required=True,
            width="stretch",
            format_func={"adamw": "AdamW", "sgd": "SGD"}.get,
        )
        values["learning_rate"] = number(st.number_input, "learning_rate", format="%.4f")
        values["seed"] = number(st.number_input, "seed")
    try:
        config = cls.from_dict(values)
        if values.get("initialization") == "teacher" and refusal:
            raise UserError(refusal)
    except UserError as error:
        told.error(plain(error))
        return None
    st.session_state[session_keys.SETTINGS][mode] = config.to_dict()
    return config


def _refusal(student: str, teacher: str) -> str:
    """Why the student cannot begin with the teacher's layers, or nothing."""
    try:
        registry.inherited(registry.skeleton(student), shared.manager().teacher(teacher).model)
        return ""
    except UserError as error:
        return str(error)


def _student(kept: str, locked: bool) -> str:
    """Chooses the student: one of the list, or an MLP of one's own by sliders."""
    own = registry.own_widths(kept) if kept not in registry.ARCHITECTURES else None
    about = DistilConfig.setting("student")
    key = session_keys.setting("distil", "student")
    if key not in st.session_state:
        st.session_state[key] = OWN if own else kept
    options = (
        [*registry.students(), OWN]
        if own or kept in registry.students()
        else [kept, *registry.students(), OWN]
    )
    choice = st.selectbox(about["label"], options, key=key, help=about["help"], disabled=locked)
    if choice != OWN:
        return choice
    widths = own or OWN_START
    layers = st.slider(
        "Hidden layers",
        1,
        registry.MAX_LAYERS,
        len(widths),
        key=session_keys.setting("distil", "layers"),
        disabled=locked,
    )
    chosen = [
        st.slider(
            f"Units in layer {i + 1}",
            2,
            registry.MAX_WIDTH,
            widths[i] if i < len(widths) else 64,
            2,
            key=session_keys.setting("distil", f"width{i}"),
            disabled=locked,
        )
        for i in range(layers)
    ]
    return registry.own_name(tuple(chosen))


def _teacher(kept: str, locked: bool) -> str:
    """Chooses the teacher, and more of them where there are more."""
    first, *more = kept.split("+")
    known = {name: name for name in (first, *more)} | teachers.choices()
    about = DistilConfig.setting("teacher")
    key, more_key = session_keys.setting("distil", "teacher"), session_keys.setting("distil", "more_teachers")
    st.session_state.setdefault(key, first)
    st.session_state.setdefault(more_key, more)
    choice = st.selectbox(
        about["label"], list(known), key=key, help=about["help"], disabled=locked, format_func=known.get
    )
    others = [name for name in known if name != choice]
    if not others:
        return choice
    st.session_state[more_key] = [name for name in st.session_state[more_key] if name in others]
    return "+".join(
        [
            choice,
            *st.multiselect(
                "More teachers",
                others,
                key=more_key,
                max_selections=MAX_TEACHERS - 1,
                placeholder="none",
                disabled=locked,
                format_func=known.get,
                help="Their answers are averaged with the teacher's, as the geometric mean of their probabilities.",
            ),
        ]
    )


def write_link(config: Config, mode: str, run_id: str | None) -> None:
    """Puts the whole setting into the URL."""
    query = (
        config.to_query() | ({"mode": mode} if mode != "distil" else {}) | ({"run": run_id} if run_id else {})
    )
    url_state.write(query)
