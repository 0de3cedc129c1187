"""Import of a visitor's own weights as a run."""

from __future__ import annotations

import streamlit as st

from kd.config.imported import ImportConfig
from kd.errors import UserError
from kd.export import importing
from kd.store import runs
from kd.ui.shell import notices, shared, visitor


def show() -> None:
    """Take a file, check it and store it as a run; a notice says why a file cannot be used."""
    with st.expander("Import a network", icon=":material/upload_file:"):
        st.markdown(
            "Upload the `state_dict()` of a student or teacher as a **safetensors** file, or the zip of an "
            "export. The network may be trained anywhere but must have one of this app's architectures, "
            "compressed or not, which is recognised by the names and shapes of the weights. The app checks "
            "the file, measures the network on the test set and stores it as one of your runs: draw digits "
            "for it, compare it, export it, or use it as a teacher."
        )
        file = st.file_uploader(
            "Weights",
            type=list(importing.SUFFIXES),
            key="import_file",
            max_upload_size=importing.MAX_BYTES // 2**20 + 1,
            disabled=visitor.forgotten(),
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            role = st.segmented_control(
                "Used as",
                ("student", "teacher"),
                default="student",
                required=True,
                key="import_role",
                help=ImportConfig.setting("role")["help"],
            )
            st.button(
                "Import",
                key="import",
                icon=":material/upload:",
                disabled=file is None,
                on_click=_store,
                args=(file, role),
            )


def _store(file: st.runtime.uploaded_file_manager.UploadedFile, role: str) -> None:
    try:
        digest = runs.owner_digest(visitor.token())
        reference = shared.manager().teacher(ImportConfig.teacher)
        run = importing.store(
            file.getvalue(),
            role,
            importing.name_of(file.name),
            shared.manager().source.mnist(),
            reference,
            digest,
        )
        accuracy = run.measures["models"][role]["test_accuracy"]
        told = f"{run.name} was imported: {run.architecture}, test accuracy {accuracy:.2%}."
        if run.message:
            notices.notify("warning", f"{told} {run.message}")
        else:
            notices.notify("success", told)
    except UserError as error:
        notices.notify("error", str(error))
