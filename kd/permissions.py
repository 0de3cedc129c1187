"""Permissions of visitors on a shared server. All of them are decided here.

Without a presenter's password, everybody may start runs and manage their own. With one
($KD_PRESENTER_PASSWORD), visitors who have not entered it may only watch, look and draw.

A visitor is identified by the digest of their token (runs.owner_digest). The presenters are kept
in memory: after a restart, they enter the password again.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import threading
import time
from collections import deque

from kd.errors import UserError

PASSWORD = "KD_PRESENTER_PASSWORD"
SHORTEST = 8  # characters
WINDOW = 60.0  # seconds in which wrong passwords are counted
TRIES = 5  # wrong passwords in that time from one visitor, identified by address and by token
ALL_TRIES = 100  # from all visitors: one can have many addresses, and make tokens at will
MAX_PRESENTERS = 100
THIS_MACHINE = "this machine"  # as an address: of whoever sits at the server
ONLY = "Only the presenter can {} on this server. You can watch, look at everything that is stored, and draw."

_lock = threading.Lock()
_presenters: dict[str, None] = {}  # digests of tokens, the oldest first
_entered: dict[str, None] = {}  # digests of tokens that ever entered the password, the oldest first
_wrong: deque[tuple[float, str, str | None]] = deque()  # time, the visitor's token digest and network


def closed() -> bool:
    """Return whether a presenter's password is set. An empty one lets nobody in."""
    return PASSWORD in os.environ


def presenter(owner: str | None) -> bool:
    """Return whether this visitor is a presenter; without a password, nobody is."""
    return closed() and owner in _presenters


def allowed(owner: str | None) -> bool:
    """Return whether this visitor may start, store and delete runs."""
    return not closed() or owner in _presenters


def check(owner: str | None, what: str) -> None:
    """Check that a visitor may do ``what``, such as "start runs".

    Args:
        owner: the digest of the visitor's token.

    Raises:
        UserError: only the presenter may.
    """
    if not allowed(owner):
        raise UserError(ONLY.format(what))


def enter(password: str, owner: str | None, address: str | None = None) -> None:
    """Make a visitor a presenter.

    Wrong passwords are limited so that strangers cannot use up the tries of the presenter, although they can
    make tokens at will. For a browser that has entered the password before, only its own wrong ones count; at
    the server itself, only those entered there.

    Args:
        owner: the digest of the visitor's token.
        address: the visitor's network address, or THIS_MACHINE; None if it is not known.

    Raises:
        UserError: the password is wrong, too many wrong ones were entered, or the server has no usable one.
    """
    right = os.environ.get(PASSWORD)
    if right is None or owner is None:
        raise UserError("This server has no presenter: everybody can start runs here.")
    if len(right) < SHORTEST:
        raise UserError(
            f"{PASSWORD} has fewer than {SHORTEST} characters, so it lets nobody in; "
            "set a longer one and start the server again."
        )
    with _lock:
        now, network = time.monotonic(), _network(address)
        while _wrong and now - _wrong[0][0] > WINDOW:
            _wrong.popleft()
        if _too_many(owner, network):
            raise UserError(f"Too many wrong passwords were tried; wait {WINDOW:.0f} seconds and try again.")
        # Comparing digests takes a time that depends on neither the password nor its length.
        if not hmac.compare_digest(
            *(hashlib.sha256(text.encode(errors="replace")).digest() for text in (password, right))
        ):
            _wrong.append((now, owner, network))
            raise UserError("That is not the presenter's password.")
        for known in (_presenters, _entered):
            known.pop(owner, None)
            known[owner] = None
            while len(known) > MAX_PRESENTERS:
                del known[next(iter(known))]


def _too_many(owner: str, network: str | None) -> bool:
    """Return whether a visitor may not try another password now."""
    own = sum(other == owner for _, other, _ in _wrong)
    if owner in _entered:
        return own >= TRIES
    near = sum(network is not None and other == network for _, _, other in _wrong)
    if max(own, near) >= TRIES:
        return True
    return len(_wrong) >= ALL_TRIES and network != THIS_MACHINE


def _network(address: str | None) -> str | None:
    """Return what one visitor can hardly have many of: an IPv4 address, or the first half of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)


def leave(owner: str | None) -> None:
    """Make the visitor a presenter no longer."""
    with _lock:
        if owner is not None:
            _presenters.pop(owner, None)
