"""Draw scores and their reliability."""
