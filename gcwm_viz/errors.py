"""The one error that is the user's to mend."""

MAX_LENGTH = 2000


class InputError(ValueError):
    """Input or settings that cannot be used.

    The message is one sentence that names the file and tensor (or the setting), what was expected and what was
    found. The command line prints it and exits with code 2; the app shows it as text. Whatever a file made it quote,
    it stays one line of bounded length.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message).replace("\n", " ").replace("\r", " ")
        super().__init__(text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH // 2]} … {text[-MAX_LENGTH // 2 :]}")
