"""The exception whose message is shown to the user, and the true reason why a file cannot be read."""

import errno


class UserError(ValueError):
    """An error that the user can fix. Its message says how, in plain words.

    Every part of ``kd`` raises it. The app shows the message, and the command line prints it without
    a traceback.
    """


# Errors by which a file is missing, or something else has its name.
_NO_FILE = {None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}


def hindrance(error: Exception) -> str:
    """Return why a file cannot be read that may be intact, as "Too many open files"; "" for other errors.

    Nobody should be told to restore or delete a file for that reason.
    """
    if not isinstance(error, OSError) or error.errno in _NO_FILE:
        return ""
    return error.strerror or str(error)
