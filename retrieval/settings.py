"""Settings: from arguments, ``HOLDFAST_*`` variables, or ``holdfast.toml`` in the data directory.

In that order of precedence. The library, the command line and the server read the
same class. Thresholds and budgets are what selection acts on; each default says
where it comes from.
"""

import contextlib
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ..memory.errors import ConfigurationError, HoldfastError, InvalidInputError
from ..memory.keys import KeySource
from ..memory.places import config_directory, data_directory
from .selection import Policy, thresholds

CONFIG_NAME = "holdfast.toml"
MOST_NUMBER = 1_000_000_000
"""Largest limit and budget."""


def data_path(path: object) -> Path:
    """Give a caller's data directory as a path.

    Raises:
        ConfigurationError: no file system takes it.
    """
    return _path(
        path, ConfigurationError, "the data directory", ", or leave it out for the default"
    )


def folder_path(path: object, what: str) -> Path:
    """Give another folder that a caller named as a path.

    Raises:
        InvalidInputError: no file system takes it.
    """
    return _path(path, InvalidInputError, what, "")


def _path(path: object, error: type[HoldfastError], what: str, otherwise: str) -> Path:
    if isinstance(path, (str, Path)) and str(path) and "\0" not in str(path):
        with contextlib.suppress(UnicodeEncodeError):
            os.fsencode(path)
            return Path(path)
    raise error(
        f"{what} is given as text or Path, not empty, without NUL or lone surrogates; "
        f"correct it{otherwise}"
    )


class Route(BaseModel):
    """Where requests for some models go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Literal["openai", "anthropic", "litellm"] = "openai"
    """What the upstream speaks; ``litellm`` translates for all others."""
    url: str | None = None
    """Its base URL, like ``https://api.openai.com/v1``; None: the provider's own."""
    key: SecretStr | None = None
    """The installation's key for it; None: the caller's own is passed on."""
    model: str | None = None
    """What it calls the model; None: as the caller does. ``litellm`` wants ``provider/model``."""


class Settings(BaseSettings):
    """What can be set. Every name is also a variable: ``HOLDFAST_`` and the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="HOLDFAST_", env_ignore_empty=True, extra="forbid", frozen=True
    )

    data: Path = Field(default_factory=data_directory)
    """The data directory."""
    database_url: str | None = None
    """SQLAlchemy URL of the system of record; None: SQLite in the data directory."""
    chroma_url: str | None = None
    """http(s) URL of a Chroma server; None: Chroma embedded in the data directory."""
    embedder: str = "bundled"
    """``bundled``, or ``sentence-transformers:NAME_OR_PATH``."""
    threads: int = Field(default=0, ge=0)
    """Threads that embed; 0: as many as there are cores, at most four."""
    calibration: Path | None = None
    """Table from scores to probabilities (``python -m training.calibrate``); None: the shipped
    one, fitted for the bundled model."""
    threshold_must: float = Field(default=0.42, ge=0, le=1)
    """Least probability at which a ``must`` statement is injected: leans to recall."""
    threshold_should: float = Field(default=0.56, ge=0, le=1)
    """The same for ``should``."""
    threshold_prefer: float = Field(default=0.61, ge=0, le=1)
    """The same for ``prefer``: leans to precision."""
    limit: int = Field(default=5, ge=0, le=MOST_NUMBER)
    """Most topical statements injected for one request."""
    budget_tokens: int = Field(default=400, ge=0, le=MOST_NUMBER)
    """Most tokens of topical statements in one context (estimated: UTF-8 bytes / 4)."""
    always_budget_tokens: int = Field(default=300, ge=0, le=MOST_NUMBER)
    """The same for the ``always`` lane, which has its own."""
    placement: Literal["user", "system"] = "user"
    """Where ``inject`` puts the context: in the last user message, or a system message."""
    master_key: SecretStr | None = None
    """The installation's key, 32 bytes in base64 or hexadecimal, in place of a key file; in
    the environment only. Several, apart by commas: the first one wraps, the others unwrap."""
    key_file: Path | None = None
    """The installation's key file; None: one in the user's configuration directory, made when
    first needed. It must lie outside the data directory."""
    key_hook: str | None = None
    """``package.module:attribute`` of a key management service's wrapper, in place of a key."""
    checkpoint_dir: Path | None = None
    """Where the last checkpoint that was signed is kept; None: beside the key."""
    lock_timeout: float = Field(default=5.0, ge=0)
    """Seconds to wait for a data directory that another process owns."""
    host: str = "127.0.0.1"
    """Where the server listens."""
    port: int = Field(default=8790, ge=0, le=65535)
    """The same; 0: any free one."""
    stop_timeout: int = Field(default=30, ge=1, le=3600)
    """Seconds that requests in flight get to finish once the server is told to stop."""
    allowed_hosts: list[str] = []
    """Names under which the server is reached, besides those of this machine; ``*``: any (a
    proxy in front checks it)."""
    allowed_origins: list[str] = []
    """Origins of pages that may call the server from a browser; none: only its own."""
    upstream: str = "https://api.openai.com/v1"
    """Base URL of the OpenAI-compatible server for models that no route names."""
    upstream_key: SecretStr | None = None
    """The installation's key for it; None: the caller's own is passed on."""
    upstream_anthropic: str = "https://api.anthropic.com"
    """The same for the Anthropic protocol (without ``/v1``)."""
    upstream_anthropic_key: SecretStr | None = None
    routes: dict[str, Route] = {}
    """Where else requests go, by model: a name or a pattern like ``claude-*``; the first that
    fits counts."""
    upstream_timeout: float = Field(default=600, gt=0)
    """Seconds without a byte after which an upstream is given up."""
    on_failure: Literal["refuse", "pass"] = "refuse"
    """What the gateway does when it cannot retrieve or record: refuse the request, or pass it on
    without values and without evidence."""
    reader_model: str | None = None
    """Model that reads a conversation for statements when that is asked for, wherever its route
    says; None: rules do it."""
    body_limit: int = Field(default=1_048_576, gt=0)
    """Most bytes of a request to the API."""
    gateway_body_limit: int = Field(default=33_554_432, gt=0)
    """Most bytes of a request to the gateway (images and files come in it)."""
    rate_limit: int = Field(default=6000, ge=0)
    """Requests a minute with one key; 0: any number."""
    trace_texts: bool = False
    """Whether spans (of OpenTelemetry, asked for by its own variables) hold the texts of requests
    and of the statements injected for them."""
    cache_statements: int = Field(default=50_000, ge=0)
    """Statements whose vectors and words are kept in memory, over all subjects."""

    @property
    def key_source(self) -> KeySource:
        """Where the installation's key comes from.

        Raises:
            ConfigurationError: it would lie in the data directory.
        """
        data = self.data.expanduser().absolute()
        for path, name in ((self.key_file, "key_file"), (self.checkpoint_dir, "checkpoint_dir")):
            if path is not None and path.expanduser().absolute().is_relative_to(data):
                raise ConfigurationError(
                    f"{name} lies in the data directory {data}, where a copy of the data takes it "
                    "along; choose another place"
                )
        return KeySource(
            folder=config_directory(),
            master_key=None if self.master_key is None else self.master_key.get_secret_value(),
            hook=self.key_hook,
            file=self.key_file and self.key_file.expanduser().absolute(),
            checkpoints=self.checkpoint_dir and self.checkpoint_dir.expanduser().absolute(),
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments, then the environment; the file is merged in by ``load``."""
        return (init_settings, env_settings)

    @classmethod
    def load(cls, path: str | Path | None = None, **changes: Any) -> "Settings":
        """Read settings for a data directory.

        Args:
            path: the data directory; None: ``HOLDFAST_DATA``, else the user's own.
            changes: settings that go before the environment and the file.

        Raises:
            ConfigurationError: a value cannot be used; the message names the setting.
        """
        if path is not None:
            changes["data"] = data_path(path)
        try:
            known = cls(**changes)
            stated = known.model_fields_set
            return known.model_copy(
                update={
                    name: getattr(cls(**{name: value}), name)
                    for name, value in _read_file(known.data.expanduser() / CONFIG_NAME).items()
                    if name not in stated
                }
            )
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
            )
            raise ConfigurationError(
                f"a setting cannot be used: {problems}. "
                f"Correct it in the call, in HOLDFAST_…, or in {CONFIG_NAME}."
            ) from None

    def policy(self, limit: int | None, budget: int | None, threshold: float | None) -> Policy:
        """Give what selection acts on: what a caller asked for, else what is set here.

        Raises:
            InvalidInputError: a value is out of its range.
        """
        for value, what in ((limit, "limit"), (budget, "budget")):
            if value is not None and (type(value) is not int or not 0 <= value <= MOST_NUMBER):
                raise InvalidInputError(f"{what} is a whole number, 0 to {MOST_NUMBER}")
        if threshold is None:
            levels = thresholds(self.threshold_must, self.threshold_should, self.threshold_prefer)
        elif _is_probability(threshold):
            levels = thresholds(threshold, threshold, threshold)
        else:
            raise InvalidInputError("threshold is a probability, 0 to 1")
        return Policy(
            thresholds=levels,
            limit=self.limit if limit is None else limit,
            budget=self.budget_tokens if budget is None else budget,
            always_budget=self.always_budget_tokens,
        )


def _is_probability(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}); make it and its directory readable for "
            "this user, or choose another directory with --data or HOLDFAST_DATA"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as TOML ({error}); mend it") from None
    if "master_key" in values:
        raise ConfigurationError(
            f"{path} holds the installation's key, where a copy of the data takes it along; set "
            "HOLDFAST_MASTER_KEY in the environment, or name a key_file elsewhere"
        )
    unknown = sorted(set(values) - set(Settings.model_fields))
    if unknown:
        raise ConfigurationError(
            f"{path} names unknown settings: {', '.join(unknown)}; remove them"
        )
    return values
