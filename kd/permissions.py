"""Who may do what on a server that others reach: the one place where that is decided.

Without a presenter's password, everybody may start runs and manage their own. With one
($KD_PRESENTER_PASSWORD), who has not entered it may watch, look and draw, and that is all.

A visitor is known by the digest of their token (runs.owner_digest). Who entered the
password is kept in this process alone: after a restart it is entered again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
from collections import deque

from kd.errors import UserError

PASSWORD = "KD_PRESENTER_PASSWORD"
SHORTEST = 8  # characters
WINDOW = 60.0  # seconds in which wrong passwords are counted
TRIES = 5  # in it, of one visitor, as told by their address and by their token
ALL_TRIES = 20  # in it, of all: a visitor can have many addresses and make tokens at will
MAX_PRESENTERS = 100
ONLY = "Only the presenter can {} on this server. You can watch, look at everything that is stored, and draw."

_lock = threading.Lock()
_presenters: dict[str, None] = {}  # digests of tokens, the oldest first
_wrong: deque[tuple[float, frozenset[str]]] = deque()  # when, and by whom


def closed() -> bool:
    """Whether a presenter's password is set. One that is set but empty lets nobody in: forgetting it must not open the room."""
    return PASSWORD in os.environ


def presenter(owner: str | None) -> bool:
    """Whether this visitor entered the presenter's password; nobody has where there is none."""
    return closed() and owner in _presenters


def allowed(owner: str | None) -> bool:
    """Whether this visitor may start, store and delete."""
    return not closed() or owner in _presenters


def check(owner: str | None, what: str) -> None:
    """Sees that a visitor may do ``what``, such as "start runs".

    Args:
        owner: the digest of their token.

    Raises:
        UserError: only the presenter may.
    """
    if not allowed(owner):
        raise UserError(ONLY.format(what))


def enter(password: str, owner: str | None, address: str | None = None) -> None:
    """Lets a visitor in as the presenter.

    Args:
        owner: the digest of their token.
        address: where they are on the network, as far as that is known.

    Raises:
        UserError: a wrong password, too many of them lately, or the server has none that can be used.
    """
    right = os.environ.get(PASSWORD)
    if right is None or owner is None:
        raise UserError("This server has no presenter: everybody can start runs here.")
    if len(right) < SHORTEST:
        raise UserError(
            f"{PASSWORD} has fewer than {SHORTEST} characters, so it lets nobody in; set a longer one and start the server again."
        )
    who = frozenset(filter(None, (owner, address)))
    with _lock:
        now = time.monotonic()
        while _wrong and now - _wrong[0][0] > WINDOW:
            _wrong.popleft()
        if len(_wrong) >= ALL_TRIES or sum(bool(who & others) for _, others in _wrong) >= TRIES:
            raise UserError(f"Too many wrong passwords were tried; wait {WINDOW:.0f} seconds and try again.")
        # By digests, so that the time it takes tells nothing of the password, nor of its length.
        if not hmac.compare_digest(
            *(hashlib.sha256(text.encode(errors="replace")).digest() for text in (password, right))
        ):
            _wrong.append((now, who))
            raise UserError("That is not the presenter's password.")
        _presenters[owner] = None
        while len(_presenters) > MAX_PRESENTERS:
            del _presenters[next(iter(_presenters))]


def leave(owner: str | None) -> None:
    """The visitor is no presenter any more."""
    with _lock:
        _presenters.pop(owner, None)
