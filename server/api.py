"""The REST API under ``/api/v1``."""

from fastapi import FastAPI

from .service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the routes."""
