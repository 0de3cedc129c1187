"""One picture, and what teacher, student and control make of it, side by side over temperature."""

import streamlit as st
import torch

from kd.data.task import MNIST
from kd.device import training_device
from kd.drawing import preprocess
from kd.errors import UserError
from kd.figures import training
from kd.metrics.latency import Latency, measure_latency
from kd.models import inference, registry
from kd.store import drawings, runs
from kd.ui.charts import roles
from kd.ui.charts.chart import live_chart
from kd.ui.drawing import answers, thumbnails
from kd.ui.drawing.canvas import canvas
from kd.ui.runs import names, snapshots, teachers
from kd.ui.shell import notices, shared, visitor
from kd.ui.shell.error_boundary import plainly
from kd.ui.shell.escape import plain

manager = shared.manager()
mnist = manager.source.mnist()
st.title("Draw, and compare their answers", anchor=False)

# -- whose student answers -------------------------------------------------------------
stored = [run for run in runs.list_runs()[0] if run.about.leaves_student and "student" in run.models]
choices = names.distinct({run.id: run.name for run in stored})
shown = snapshots.shown_run()
live = manager.snapshot(shown, visitor.token()) if shown else None
if live is not None and live.kind == "distil" and live.id not in choices and (live.active or live.rows):
    choices = {live.id: f"{live.config.student}, {'training now' if live.active else live.state}"} | choices


@st.cache_data(show_spinner="Comparing on all test pictures…", max_entries=16)
def most_disagreed(run_id: str, teacher_name: str, count: int = 100) -> list[int]:
    """The test pictures on which KL(teacher || student) is greatest, greatest first."""
    teacher = manager.teacher(teacher_name).logits(mnist.test.to(training_device())).cpu().log_softmax(1)
    student = inference.logits_in_chunks(
        snapshots.stored_model(run_id, "student"), mnist.test.inputs(), 512
    ).log_softmax(1)
    return (teacher.exp() * (teacher - student)).sum(1).topk(min(count, len(mnist.test))).indices.tolist()


@st.cache_data(show_spinner="Measuring latency…", max_entries=64)
def latency(architecture: str) -> Latency:
    """One image at a time; depends on the architecture, not on the weights."""
    return measure_latency(registry.build(architecture, 0).eval())


with st.container(horizontal=True, vertical_alignment="bottom"):
    if choices:
        picked = st.selectbox(
            "Whose student answers",
            list(choices),
            index=list(choices).index(shown) if shown in choices else 0,
            format_func=choices.get,
            help="A stored run, or the one in training.",
        )
    else:
        picked = None
        st.info("There is no student yet, so the teacher answers alone. Distil one on the **Distil** page.")
    temperature = st.slider(
        "Temperature",
        1.0,
        20.0,
        1.0,
        0.5,
        key="draw_temperature",
        format="%.1f",
        help="Divides all logits before the softmax. At 1 you see the answer; higher shows the doubts.",
    )
temperature = min(20.0, max(1.0, temperature))
try:
    snap = snapshots.find(picked)
    teacher_name = snap.config.teacher if snap else MNIST.teacher
    teacher = teachers.find(teacher_name)
    teacher_name = teacher.name
except UserError as error:
    st.error(plain(error))
    st.stop()

# -- the picture -----------------------------------------------------------------------
left, right = st.columns([2, 3], gap="medium")
label = None
with left:
    way = (
        st.segmented_control(
            "Picture",
            ["Draw", "Test set", "Upload"],
            default="Draw",
            key="draw_way",
            label_visibility="collapsed",
        )
        or "Draw"
    )
    if way == "Draw":
        st.caption("Point at the canvas for undo, redo and clear.")
        picture = canvas("draw")
    elif way == "Test set":
        comparable = snap is not None and snap.saved
        order = st.radio(
            "Order",
            ["as in MNIST", "most disagreement first"] if comparable else ["as in MNIST"],
            horizontal=True,
            help="By KL(teacher || student): where the student is least like its teacher.",
        )
        pictures = (
            most_disagreed(snap.id, teacher_name) if order.startswith("most") else range(len(mnist.test))
        )
        place = st.number_input(f"Which of {len(pictures):,}", 1, len(pictures), 1) - 1
        number = pictures[min(max(0, place), len(pictures) - 1)]
        picture, label = mnist.test.images[number].cpu().numpy(), int(mnist.test.labels[number])
        st.caption(f"Its label is **{label}**.")
    else:
        given = st.file_uploader(
            "A picture of one digit, up to 5 MB", type=["png", "jpg", "jpeg", "webp", "bmp", "gif"]
        )
        picture = None
        if given is not None:
            try:
                picture = preprocess.prepare(preprocess.ink_from_picture(given.getvalue()))
                if picture is None:
                    st.warning(
                        "No digit was found in this picture; try one with a single dark digit on light paper."
                    )
            except UserError as error:
                st.error(plain(error))
    if picture is not None:
        thumbnails.model_view(picture)


# -- the answers -----------------------------------------------------------------------
@st.fragment(run_every=max(0.5, snap.pace) if snap is not None and snap.active else None)
@plainly()
def show_answers() -> None:
    if picture is None:
        st.info("**Draw a digit** with the mouse or a finger, or take a picture from the test set or a file.")
        return
    if snap is not None and snap.active and snapshots.find(snap.id).state != snap.state:
        st.rerun()
    found = answers.answer(picture, snap, teacher_name)
    if not found.is_digit:
        answers.warn_not_a_digit()
    for column, (name, logits) in zip(st.columns(len(found.logits)), found.logits.items()):
        with column:
            shares = torch.softmax(logits.double(), 0)
            digit = int(shares.argmax())
            st.metric(
                f":{roles.STREAMLIT_COLOURS[name]}[{roles.MARKS[name]}] {name}",
                str(digit),
                f"{shares[digit]:.1%} at T=1",
                delta_color="off",
                delta_arrow="off",
            )
            figure = training.bars({name: logits}, temperature)
            figure["layout"] |= {"showlegend": False, "height": 220}
            live_chart(figure, f"draw_{name}", f"{name} says {digit}.")
            architecture = (
                teacher.architecture
                if name == "teacher"
                else runs.load(snap.id).architecture
                if snap.saved
                else snap.config.student
            )
            if manager.busy():
                st.caption("Latency is measured when nothing trains.")
            else:
                took = latency(architecture)
                st.caption(
                    f"{took.median * 1e6:,.0f} µs an image (median of {took.rounds} timings, IQR {took.iqr * 1e6:,.0f} µs)"
                )


def keep(pixels) -> None:
    try:
        count = drawings.keep(pixels, st.session_state["keep_label"], visitor.token())
        notices.notify(
            "success",
            f"Kept. Your test set has {count} drawing{'s' if count > 1 else ''}; every run can be scored on it on the Runs page.",
        )
    except (UserError, TypeError) as error:
        notices.notify(
            "error",
            str(error) if isinstance(error, UserError) else "Say which digit you drew, and press Keep again.",
        )


with right:
    show_answers()
    if picture is not None and way != "Test set":
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.selectbox(
                "This is a",
                range(MNIST.classes),
                index=None,
                placeholder="digit",
                key="keep_label",
                width=120,
            )
            st.button(
                "Keep this drawing",
                key="keep",
                icon=":material/bookmark_add:",
                on_click=keep,
                args=(picture,),
                help="Adds it to your personal test set, on which every run can be scored.",
            )
