"""All that the lab's page can be set to, and that its link restores."""

from __future__ import annotations

from dataclasses import dataclass

from kd.config import Settings, _setting

#: Name in the link -> name on the page, in the order of the page.
PANELS = {
    "soft-targets": "Soft targets",
}
PICTURES = {"test": "Test set", "draw": "Draw"}
DIGITS = tuple("0123456789")


@dataclass(frozen=True, kw_only=True)
class LabSettings(Settings):
    """What the page shows, beside the run."""

    panel: str = _setting("soft-targets", "Experiment", "What the page shows.", choices=tuple(PANELS))
    temperature: float = _setting(4.0, "Temperature", "Softens the teacher's answers: at 1 nearly one-hot, higher shows what else it saw.", 1.0, 20.0, 0.5)
    picture: str = _setting("test", "Picture", "A digit of the test set, or one that you draw.", choices=tuple(PICTURES))
    image: int = _setting(1790, "Test image", "Its number in MNIST's test set, from 0.", 0, 9999, 1)
    digit: str = _setting("2", "Digit", "Whose images are searched.", choices=DIGITS)
    like: str = _setting("3", "That looks like a", "What the teacher should see in them beside.", choices=DIGITS)
