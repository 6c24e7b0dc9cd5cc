"""What to say of an exception that another library raised."""

_LONGEST = 400


def first_line(error: BaseException) -> str:
    """Return an exception's class, and the first line of its text where it has one, shortened."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:_LONGEST] if lines else type(error).__name__
