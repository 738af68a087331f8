"""Files written whole, and their checksums."""
