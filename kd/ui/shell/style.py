"""The few rules of style that the theme cannot say."""

from __future__ import annotations

import streamlit as st

# Who asked their system for less motion gets none that only decorates. Charts move because their data do.
_STILL = """
@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after {
    animation-duration: 0.01ms !important; animation-iteration-count: 1 !important;
    transition-duration: 0.01ms !important; scroll-behavior: auto !important;
  }
}
"""

# Streamlit's captions, and its primary colour where that is a letter's, are too faint by WCAG 1.4.3 (4.5 : 1).
_LEGIBLE = """
.st-key-kd_style { position: absolute; }
[data-testid="stCaptionContainer"] { opacity: 0.85; }
[data-testid="stButtonGroup"] [data-selected="true"] p, [data-testid="stSlider"] [data-testid="stMarkdownContainer"] p { color: CanvasText; }
"""

# All of Streamlit's sizes, and those of our charts, follow the root's letters. Those follow the screen, since what counts in
# the last row is the share of the projection: at 1920x1080 a letter has 25 px, at 1280x720 17 px. The canvas knows only
# pixels, so that it is zoomed in steps.
_STAGE = """
html { font-size: max(16px, min(1.3vw, 2.32vh)) !important; }
[data-testid="stToolbarActions"], [data-testid="stMainMenu"], [data-testid="stStatusWidget"], [data-testid="stAppDeployButton"] { display: none; }
[data-testid="stHeader"] { height: 2.2rem; min-height: 0; background: none; pointer-events: none; }
[data-testid="stHeader"] * { pointer-events: auto; }
[data-testid="stMain"]:focus-visible { outline: none; box-shadow: none; }
[data-testid="stMainBlockContainer"] { padding: 0.4rem 2rem 3.2rem 3rem; }
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] { gap: 0.5rem; }
[data-testid="stVerticalBlock"]:has(> [data-testid="stLayoutWrapper"] > .st-key-kd_stage_bar) { gap: 0; }
[data-testid="stLayoutWrapper"]:has(> .st-key-kd_sample) { position: fixed; top: 0.5rem; left: 4rem; width: auto; }
.st-key-kd_stage_bar {
  position: fixed; left: 0; right: 0; bottom: 0; z-index: 99; padding: 0 2rem 0 3rem; column-gap: 0.75rem;
  background: Canvas; border-top: 1px solid color-mix(in srgb, CanvasText 20%, Canvas);
}
.st-key-kd_stage_bar > *:first-child { flex: 1 1 0; min-width: 0; }
.st-key-kd_stage_bar p { font-size: 0.75rem; }
.st-key-kd_stage_bar button { min-height: 2rem; padding: 0; }
[data-testid="stMain"] .kd-chart.chart_loss, [data-testid="stMain"] .kd-chart.chart_accuracy { height: max(11rem, 31vh) !important; }
[data-testid="stMain"] .st-key-kd_replay .kd-chart.chart_loss, [data-testid="stMain"] .st-key-kd_replay .kd-chart.chart_accuracy { height: max(11rem, 28vh) !important; }
[data-testid="stMain"] .st-key-kd_replay .kd-chart.chart_answers { height: max(10rem, 26vh) !important; }
[data-testid="stMain"] .kd-chart.chart_answers { height: max(10rem, 27vh) !important; }
.kd-charts:has(.chart_loss) { row-gap: 0 !important; }
.kd-charts:has(.chart_loss) .kd-frame { flex-basis: 100% !important; }
html { --kd-widest: none; }
.kd-qr { display: block; width: min(100%, 68vh); image-rendering: pixelated; }
.st-key-kd_qr [data-testid="stCode"] code { font-size: 1.2rem; }
.st-key-kd_canvas { zoom: 0.75; position: relative; }
.st-key-kd_canvas > :first-child { isolation: isolate; }
/* A picture that was not drawn lies on the canvas instead of below it, and lets strokes through. */
.st-key-kd_canvas > [data-testid="stElementContainer"]:has(img) { position: absolute; top: 0; width: 280px; pointer-events: none; mix-blend-mode: lighten; z-index: 2; }
.st-key-kd_canvas > [data-testid="stElementContainer"]:has(img) img { width: 280px; height: 280px; }
.st-key-kd_canvas > [data-testid="stElementContainer"]:has(img) + [data-testid="stElementContainer"] { display: none; }
@media (max-width: 700px) {  /* a phone has no keys, and little room */
  .st-key-kd_stage_bar > *:first-child { display: none; }
  .st-key-kd_stage_bar { justify-content: space-between; padding: 0 0.5rem; }
  [data-testid="stMain"] kbd { display: none; }
  [data-testid="stLayoutWrapper"]:has(> .st-key-kd_sample) { position: static; padding-top: 2rem; }
}
@media (min-width: 1600px) { .st-key-kd_canvas { zoom: 0.95; } }
@media (min-width: 1900px) { .st-key-kd_canvas { zoom: 1.1; } }
@media (min-width: 2500px) { .st-key-kd_canvas { zoom: 1.45; } }
@media (min-width: 3800px) { .st-key-kd_canvas { zoom: 2.2; } }
"""


def apply(on_stage: bool) -> None:
    """Puts the rules into the page; on a stage with large type and without menus.

    Streamlit keeps what is style alone apart, and it came after the first captions were seen. With another node beside it, it
    is an element like others, and the first.
    """
    with st.container(key="kd_style"):
        st.html(f"<span></span><style>{_STILL}{_LEGIBLE}{_STAGE if on_stage else ''}</style>")
