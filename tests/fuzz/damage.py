"""Files as bad luck makes them: valid ones with flipped bits, cut, spliced; and any bytes."""

from hypothesis import strategies as st

Edit = tuple[str, float, float, bytes]
_share = st.floats(0, 1, exclude_max=True)
_edits = st.tuples(
    st.sampled_from(["flip", "cut", "splice", "insert", "overwrite"]),
    _share, _share, st.binary(min_size=1, max_size=12),
)  # fmt: skip


def damaged(*valid: bytes) -> st.SearchStrategy[bytes]:
    """One to three edits of a valid file, or bytes that have nothing to do with it."""
    edited = st.builds(_edited, st.sampled_from(valid), st.lists(_edits, min_size=1, max_size=3))
    return st.one_of(edited, edited, edited, st.binary(max_size=400)).map(Content)


class Content(bytes):
    """Bytes that show their beginning only."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes {bytes(self[:200])!r}"


def _edited(content: bytes, edits: list[Edit]) -> bytes:
    for edit in edits:
        content = _once_edited(content, *edit) if content else content
    return content


def _once_edited(content: bytes, kind: str, first: float, second: float, new: bytes) -> bytes:
    at, other = int(first * len(content)), int(second * len(content))
    if kind == "flip":
        flipped = content[at] ^ (1 << new[0] % 8)
        return content[:at] + bytes([flipped]) + content[at + 1 :]
    if kind == "cut":
        return content[:at]
    if kind == "splice":  # a piece from elsewhere
        return content[:at] + content[other : other + 16 * len(new)] + content[at:]
    if kind == "insert":
        return content[:at] + new + content[at:]
    return content[:at] + new + content[at + len(new) :]
