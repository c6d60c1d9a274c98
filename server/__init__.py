"""Every door in; each calls the same engine."""
