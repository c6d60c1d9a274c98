"""Which few statements matter now, and why."""
