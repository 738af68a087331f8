"""Train members of an ensemble, alone or stacked, and sample their posterior."""
