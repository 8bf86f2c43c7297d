"""Two hosts of network namespaces, and a third with PostgreSQL, Redis, daemon and provider; needs root."""
