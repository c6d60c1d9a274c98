"""One small file a migration."""
