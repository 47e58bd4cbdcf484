"""The one error that is the user's to mend."""


class InputError(ValueError):
    """Input or settings that cannot be used.

    The message is one sentence that names the file and tensor (or the setting), what was expected and what was
    found. The command line prints it and exits with code 2; the app shows it as text.
    """
