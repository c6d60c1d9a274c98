"""Speed and quality beside peers: ``benchmarks.speed``, ``benchmarks.quality``."""
