"""The Model Context Protocol: five tools, over HTTP at ``/mcp`` and over standard input."""

from fastapi import FastAPI

from .service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the routes."""
