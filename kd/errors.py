"""The one kind of error that is shown to a person."""


class UserError(ValueError):
    """Something a person can mend. Its message is one plain sentence that says how.

    Raised by every part of ``kd``; the app shows it as it stands and the command
    line prints it without a traceback.
    """
