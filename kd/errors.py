"""The exception whose message is shown to the user."""


class UserError(ValueError):
    """An error that the user can fix. Its message says how, in plain words.

    Every part of ``kd`` raises it. The app shows the message, and the command line prints it without
    a traceback.
    """
