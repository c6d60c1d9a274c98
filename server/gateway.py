"""The gateway to any model: OpenAI's and Anthropic's protocols."""

from fastapi import FastAPI

from .service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the routes."""
