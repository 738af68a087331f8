"""The error class whose message a user should read."""

# Words for a lack of memory, as torch, the operating system and the GPU libraries put it.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "annot allocate memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "failed to map segment",
    "can't start new thread",
)


class UserError(ValueError):
    """Report a problem the user can mend: the message says what is wrong, where, and the remedy."""


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, reports a lack of memory.

    Args:
        error: The error to look at, with its causes; None counts as no lack of memory.
    """
    if error is None:
        return False
    # torch's own type is told by its name, so that this file does not have to import torch.
    has_type = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    has_words = any(words in str(error) for words in _OUT_OF_MEMORY)
    return has_type or has_words or out_of_memory(error.__cause__ or error.__context__)
