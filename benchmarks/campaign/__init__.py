"""The campaign: everything that can go wrong, at random moments, again and again; see docs/reliability.md."""
