"""The error that a person is meant to read."""

_SAID = (
    "can't allocate memory",
    "annot allocate memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "failed to map segment",
    "can't start new thread",
)


class UserError(ValueError):
    """Something the user can mend; the message says what is wrong, where, and how to mend it."""


def out_of_memory(error: BaseException | None) -> bool:
    """Whether there was no memory, for this or for what it comes from: by type, by torch's type,
    which is not imported here, or by words, as torch, the system and libraries of a GPU say it.
    """
    if error is None:
        return False
    is_named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    is_said = any(words in str(error) for words in _SAID)
    return is_named or is_said or out_of_memory(error.__cause__ or error.__context__)
