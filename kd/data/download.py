"""The download of MNIST by torchvision, in a process of its own, and why it failed."""

from __future__ import annotations

import re
import sys
import urllib.request
from pathlib import Path

#: Size in bytes of the four compressed files.
BYTES = 9912422 + 28881 + 1648877 + 4542
_LONGEST = 200  # characters of an error that is quoted

#: What an error says -> what to tell. The first that matches counts: torchvision tries several addresses
#: and reports the errors of all of them.
_REASONS = (
    (
        r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b",
        "the disk is full; free some space in {folder}",
    ),
    (
        r"Permission denied|Read-only file system|Errno 13\b|Errno 30\b",
        "{folder} cannot be written to; change its permissions, or name another folder in KD_DATA_DIR",
    ),
    (
        r"\b407\b|Proxy Authentication",
        "the proxy wants a name and a password (407); set HTTPS_PROXY and HTTP_PROXY to "
        "http://name:password@host:port",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError",
        "the server's certificate is not trusted, as happens behind a proxy that opens encrypted "
        "connections; set SSL_CERT_FILE to that proxy's certificate",
    ),
    (r"Tunnel connection failed: (?P<found>[^>\n]+)", "the proxy refused the connection ({found})"),
    (r"HTTP Error (?P<found>\d+(?:: [^>\n]+)?)", "the server answered with an error ({found})"),
    (
        r"File not found or corrupted|Not a gzipped file|BadGzipFile",
        "what arrived was not MNIST; a proxy or a login page of the network may have answered instead",
    ),
    (
        r"getaddrinfo|[Nn]ame resolution|Name or service not known|nodename nor servname|"
        r"Network is unreachable|No route to host|Connection refused|Connection reset|timed out|"
        r"Remote end closed connection",
        "there seems to be no network{proxy}",
    ),
)


def command(folder: Path) -> list[str]:
    """Return the command that downloads MNIST into ``folder``.

    A separate process, because a hanging download can only be ended from outside.
    """
    script = "import sys; from torchvision.datasets import MNIST; MNIST(sys.argv[1], download=True)"
    return [sys.executable, "-c", script, str(folder)]


def reason(said: str, code: int, folder: Path) -> str:
    """Return why a download failed, as the end of a sentence.

    Args:
        said: what the process wrote to stderr.
        code: its exit code, not 0.
        folder: where it was to save MNIST.
    """
    proxy = ", or its proxy cannot be reached" if urllib.request.getproxies() else ""
    for pattern, told in _REASONS:
        if match := re.search(pattern, said):
            found = match.groupdict().get("found") or ""
            return told.format(folder=folder, proxy=proxy, found=found.strip())
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if lines:
        return lines[-1][:_LONGEST].rstrip(".")
    return f"the program that downloads it ended with status {code}"
