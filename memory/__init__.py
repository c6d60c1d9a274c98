"""What was said, decided and recorded: the system of record."""
