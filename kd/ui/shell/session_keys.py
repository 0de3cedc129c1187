"""The keys of st.session_state, in one place so that none collide."""

OWNER = "owner"
FORGOTTEN = "forgotten"  # whether the browser sent no cookie with the token
RUN = "run"  # the id of the run shown
PREVIOUS = "previous"  # the id of a run started here, and of the finished run that was shown before it
RUN_CHOICE = "run_choice"  # the id of the run that the Runs page shows
LAB_RUN = "lab_run"  # the id of the lab's own run shown: a study, or a run with a mistake
SETTINGS = "settings"  # mode -> dict of settings, kept when the page changes
MODE = "mode"  # "distil" or "teacher"
PRESET = "preset"
LINK = "link"  # (page, what it ignored of the session's first link)
NOTICE = "notice"  # (kind, sentence) to show once after a rerun
DRAWING = "drawing"  # the strokes and the 28x28 picture, shared by all pages
TEST_DIGITS = "test_digits"  # how many test pictures were taken instead of a drawing
SHOW_AT = "show_at"  # temperature of the answer bars
MODE_WIDGET = "mode_widget"
LAB = "lab"  # dict of the lab's settings
COMPRESS = "compress"  # dict of the Compress page's settings
COMPRESS_RUN = "compress_run"  # the id of the fine-tuning shown
COMPRESS_ADOPTED = "compress_adopted"  # the id of the fine-tuning whose settings the widgets show
WAY = "way"  # the panel of the Sweep page: "sweep" or "search"
WAY_WIDGET = "way_widget"
SEARCH = "search"  # dict of a search's settings, as the visitor entered them
SEARCH_RUN = "search_run"  # the id of the search shown
GRID = "grid"  # dict of a sweep's settings, as the visitor entered them
GRID_RUN = "grid_run"  # the id of the sweep shown
GRID_PICKED = "grid_picked"  # the heat map's cell whose numbers are shown
GRID_CELLS = "grid_cells"  # how often the select box of cells has been given a new key
GRID_TOUCHED = "grid_touched"  # the settings of the sweep in which the visitor picked a cell
GRID_MEASURE = "grid_measure"  # the measure that the heat map's colours show
GRID_GAIN = "grid_gain"  # whether they show the difference from the control
GRID_SEED = "grid_seed"  # the seed whose network a click opens
GRID_OPEN = "grid_open_clicked"  # whether to open the cell that was clicked
GRID_NEWS = "grid_news"  # whether a click has just picked another cell
MEASURE = "measure_runs"  # ids of the runs still to be measured
PRESENT = "present"  # whether in presenter mode
STRIP = "strip"  # whether the visitor came during the download of MNIST
ADDRESS = "address"  # the parameters that the page's address should have
ADDRESS_COUNT = "address_count"  # an id of this session, and how often its address was shown
REPLAY = "replay"  # the id of the run that is replayed
PLAYER = "player"  # the position of its replay
ADOPTED = "adopted"  # the id of the run whose settings the Distil page's widgets show


def setting(mode: str, name: str) -> str:
    """Return the key of the widget of one setting."""
    return f"{mode}_{name}"


def renewed(prefix: str) -> str:
    """Return the key of a form's counts of how often each widget has been given a new key."""
    return f"{prefix}_widgets"
