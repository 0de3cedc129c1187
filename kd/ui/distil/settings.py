"""The settings of a run as widgets. Labels, ranges and help texts come from the config classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from kd.config.base import MAX_TEACHERS, Config
from kd.config.distil import LIVE_SETTINGS, METHOD_SETTINGS, SCHEME_SETTINGS, DistilConfig
from kd.config.presets import PRESETS
from kd.config.schemes import SCHEMES
from kd.config.teacher import TeacherConfig
from kd.data.augmentation import AUGMENTATIONS
from kd.data.task import MNIST
from kd.errors import UserError
from kd.models import registry
from kd.objectives import METHODS
from kd.ui.forms.form import Form
from kd.ui.run import teachers
from kd.ui.shell import session_keys, shared, url_state
from kd.ui.shell.escape import plain

FORMS = {
    "distil": Form(DistilConfig, session_keys.SETTINGS, "distil", part="distil", same_keys=True),
    "teacher": Form(TeacherConfig, session_keys.SETTINGS, "teacher", part="teacher", same_keys=True),
}
#: Settings that only some methods or schemes read.
_OPTIONAL = METHOD_SETTINGS + SCHEME_SETTINGS
OWN = "your own"
OWN_START = (64,)
#: Widgets for parts of the student and of the teacher.
_PARTS = ("more_teachers", "layers", *(f"width{i}" for i in range(registry.MAX_LAYERS)))


def restore() -> str:
    """Take the settings from the link on a session's first run; return the mode, "distil" or "teacher"."""
    if session_keys.MODE in st.session_state:
        return st.session_state[session_keys.MODE]
    mode = "teacher" if st.query_params.get("mode") == "teacher" else "distil"
    for name, form in FORMS.items():
        form.restore(st.query_params.to_dict() if name == mode else {})
    st.session_state[session_keys.MODE] = mode
    return mode


def adopt(config: Config, mode: str, but: Collection[str] = ()) -> None:
    """Show ``config`` in the widgets, which must not have been drawn in this run yet.

    Args:
        but: settings, and parts of settings, that stay as they were.
    """
    FORMS[mode].adopt(config, but)
    for part in _PARTS:
        if part not in but:
            FORMS[mode].renew(part)


def show(config: DistilConfig) -> None:
    """Make the Distil page start with the settings ``config`` and without a run."""
    for form in FORMS.values():
        form.restore({})
    st.session_state[session_keys.MODE], st.session_state[session_keys.RUN] = "distil", None
    adopt(config, "distil")


def show_run(id: str) -> None:
    """Make the Distil page show a run and its settings."""
    st.session_state[session_keys.RUN], st.session_state[session_keys.REPLAY] = id, None
    st.session_state.pop(session_keys.ADOPTED, None)


def _apply_preset() -> None:
    preset = PRESETS.get(st.session_state[session_keys.PRESET])
    if preset is not None:
        kept = FORMS["distil"].values
        config = DistilConfig(seed=kept["seed"], teacher=kept["teacher"], **preset)
        adopt(config, "distil", but=("seed", "teacher", "more_teachers"))


@dataclass(frozen=True)
class _Widgets:
    """The widgets of a form, before and during a run.

    Args:
        locked: whether this visitor's run is active, so that only live settings can be changed.
        on_live_change: called with the name of a setting that is changed during a run.
    """

    form: Form
    locked: bool
    on_live_change: Callable[[str], None]

    def draw(self, kind: Callable, name: str, **options: Any) -> Any:
        live = self.locked and name in LIVE_SETTINGS
        return self.form.widget(
            kind,
            name,
            changed=self.on_live_change if live else None,
            disabled=self.locked and not live,
            **options,
        )


def draw(mode: str, locked: bool, on_live_change: Callable[[str], None]) -> Config | None:
    """Draw the widgets of all settings; return the resulting config, or None if it is invalid.

    Args:
        locked: whether this visitor's run is active, so that only live settings can be changed.
        on_live_change: called with the name of a setting that is changed during a run.
    """
    form = FORMS[mode]
    widgets = _Widgets(form, locked, on_live_change)
    error_place = st.container()  # above the widgets, where it is seen first
    if mode == "distil":
        _distillation(widgets)
    else:
        widgets.draw(st.selectbox, "teacher", options=list(reversed(registry.ARCHITECTURES)))
        widgets.draw(st.selectbox, "augmentation", options=list(AUGMENTATIONS))
    widgets.draw(st.number_input, "epochs")
    with st.expander("Optimizer and seed"):
        widgets.draw(st.number_input, "batch_size")
        form.optimizer(width="stretch", disabled=locked)
        widgets.draw(st.number_input, "learning_rate", format="%.4f")
        widgets.draw(st.number_input, "seed")
    try:
        config = form.cls.from_dict(_read(form.values) if mode == "distil" else form.values)
        if getattr(config, "initialization", "random") == "teacher":
            if refusal := _refusal(config.student, config.teacher):
                raise UserError(refusal)
    except UserError as error:
        error_place.error(plain(error))
        return None
    form.keep(config.to_dict())
    return config


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the chosen method and scheme read."""
    used = METHODS[values["method"]].settings + SCHEMES[values["scheme"]].settings
    return {name: value for name, value in values.items() if name not in _OPTIONAL or name in used}


def _distillation(widgets: _Widgets) -> None:
    """Draw the settings that only a distillation has."""
    form, locked = widgets.form, widgets.locked
    st.selectbox(
        "Preset",
        list(PRESETS),
        index=None,
        placeholder="Start from a preset",
        key=session_keys.PRESET,
        on_change=_apply_preset,
        disabled=locked,
        help="Fills in the settings below, except the seed and the teacher.",
    )
    form.values["student"] = _student(form, locked)
    form.values["teacher"] = _teacher(form, locked)
    if form.values["initialization"] == "teacher" or not _refusal(
        form.values["student"], form.values["teacher"]
    ):
        widgets.draw(
            st.segmented_control,
            "initialization",
            options={"random": "Random", "teacher": "The teacher's"},
            required=True,
            width="stretch",
        )
    scheme = SCHEMES[
        widgets.draw(st.selectbox, "scheme", options={name: scheme.title for name, scheme in SCHEMES.items()})
    ]
    if scheme.name != "teacher":
        st.caption(f"{scheme.purpose} {scheme.paper}.")
    if "assistant" in scheme.settings:
        widgets.draw(st.selectbox, "assistant", options=list(registry.ARCHITECTURES))
    if "generations" in scheme.settings:
        widgets.draw(st.number_input, "generations")
    method = METHODS[
        widgets.draw(st.selectbox, "method", options={name: method.title for name, method in METHODS.items()})
    ]
    st.caption(
        f"{method.purpose} {method.paper}."
        + ("" if method.teacher and scheme.teacher else " The teacher above is shown for comparison only.")
    )
    for name in method.settings:
        decimals = len(str(form.cls.setting(name)["step"]).partition(".")[2])
        widgets.draw(st.slider, name, format=f"%.{decimals}f")
    _schedule(form, locked)
    transfer_set = ("omitted", "labels", "label_noise", "augmentation")
    changed = any(form.values[name] != form.cls.setting(name)["default"] for name in transfer_set)
    with st.expander("Transfer set", expanded=changed):
        widgets.draw(st.pills, "omitted", options=MNIST.class_names, selection_mode="multi")
        widgets.draw(st.number_input, "labels")
        widgets.draw(st.slider, "label_noise", format="percent")
        widgets.draw(st.selectbox, "augmentation", options=list(AUGMENTATIONS))


def _schedule(form: Form, locked: bool) -> None:
    """Show the schedule of the run or link that set one, and a button to remove it."""
    if not form.values["schedule"]:
        return
    changes = (f"after step {step:,} {name} → {value:g}" for step, name, value in form.values["schedule"])
    st.caption("Schedule: " + "; ".join(changes))
    st.button(
        "Remove the schedule",
        key=form.key("no_schedule"),
        on_click=_remove_schedule,
        args=(form,),
        disabled=locked,
    )


def _remove_schedule(form: Form) -> None:
    form.values["schedule"] = []


def _refusal(student: str, teacher: str) -> str:
    """Return why the student cannot start from the teacher's layers; empty if it can."""
    try:
        registry.inherited(registry.skeleton(student), shared.manager().teacher(teacher).model)
        return ""
    except UserError as error:
        return str(error)


def _student(form: Form, locked: bool) -> str:
    """Draw the choice of the student: one from the list, or an MLP with widths set by sliders."""
    kept = form.values["student"]
    own = registry.own_widths(kept) if kept not in registry.ARCHITECTURES else None
    about = DistilConfig.setting("student")
    key = form.key("student")
    if key not in st.session_state:
        st.session_state[key] = OWN if own else kept
    options = (
        [*registry.students(), OWN]
        if own or kept in registry.students()
        else [kept, *registry.students(), OWN]
    )
    # Kept by a callback too: a change of the mode in the same run hides these widgets before they are read.
    common: dict[str, Any] = {"disabled": locked, "on_change": _keep_student, "args": (form,)}
    choice = st.selectbox(about["label"], options, key=key, help=about["help"], **common)
    if choice != OWN:
        return choice
    widths = own or OWN_START
    layers = st.slider(
        "Hidden layers",
        1,
        registry.MAX_LAYERS,
        len(widths),
        key=form.key("layers"),
        **common,
    )
    chosen = [
        st.slider(
            f"Units in layer {i + 1}",
            2,
            registry.MAX_WIDTH,
            widths[i] if i < len(widths) else 64,
            2,
            key=form.key(f"width{i}"),
            **common,
        )
        for i in range(layers)
    ]
    return registry.own_name(tuple(chosen))


def _keep_student(form: Form) -> None:
    choice = st.session_state.get(form.key("student"))
    if choice is None:  # a preset has just set the student
        return
    if choice == OWN:
        kept = form.values["student"]
        widths = (registry.own_widths(kept) if kept not in registry.ARCHITECTURES else None) or OWN_START
        layers = st.session_state.get(form.key("layers"), len(widths))
        padded = (*widths, *[64] * layers)[:layers]
        choice = registry.own_name(
            tuple(st.session_state.get(form.key(f"width{i}"), width) for i, width in enumerate(padded))
        )
    form.values["student"] = choice


def _teacher(form: Form, locked: bool) -> str:
    """Draw the choice of the teacher, and of further teachers if there are any."""
    first, *more = form.values["teacher"].split("+")
    known = {name: name for name in (first, *more)} | teachers.choices()
    about = DistilConfig.setting("teacher")
    key, more_key = form.key("teacher"), form.key("more_teachers")
    st.session_state.setdefault(key, first)
    st.session_state.setdefault(more_key, more)
    choice = st.selectbox(
        about["label"],
        list(known),
        key=key,
        help=about["help"],
        disabled=locked,
        format_func=known.get,
        on_change=_keep_teacher,
        args=(form,),
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
                on_change=_keep_teacher,
                args=(form,),
                help="Averages their answers with the teacher's: the geometric mean of the probabilities.",
            ),
        ]
    )


def _keep_teacher(form: Form) -> None:
    first = st.session_state[form.key("teacher")]
    more = st.session_state.get(form.key("more_teachers"), [])
    form.values["teacher"] = "+".join([first, *(name for name in more if name != first)])


def write_link(config: Config, mode: str, run_id: str | None) -> None:
    """Put all settings into the URL."""
    query = (
        config.to_query() | ({"mode": mode} if mode != "distil" else {}) | ({"run": run_id} if run_id else {})
    )
    url_state.write(query)
