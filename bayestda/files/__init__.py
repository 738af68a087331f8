"""Write files whole or not at all, and seal them with checksums."""
