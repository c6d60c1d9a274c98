"""Every error that Holdfast raises on purpose.

    HoldfastError
    ├── InvalidInputError        (also a ValueError) the caller's words or values cannot be used
    ├── NotFoundError            (also a LookupError) nothing of this tenant has that id
    │   └── ErasedError          it was there, and its subject was erased
    ├── ConfigurationError       a setting, or something that must be installed, is wrong or missing
    │   └── KeyUnavailableError  the installation's key is missing, wrong, or open to others
    └── StorageError             the data directory or a database under it cannot be used
        ├── LockedError          another process owns the data directory
        ├── ReadOnlyError        the data directory cannot be written to
        ├── StorageFullError     no space is left
        ├── NewerVersionError    the data directory was written by a newer Holdfast
        ├── ForkError            the ledger does not continue what was signed before
        └── DamagedError         something on disk is not what was written there

A message says what is wrong and names the fix. No message carries a subject's text.
"""


class HoldfastError(Exception):
    """Base of all errors that Holdfast raises on purpose."""


class InvalidInputError(HoldfastError, ValueError):
    """What the caller gave cannot be used; nothing was stored."""


class NotFoundError(HoldfastError, LookupError):
    """Nothing of this tenant has that id."""


class ErasedError(NotFoundError):
    """What that id named was erased with its subject."""


class ConfigurationError(HoldfastError):
    """A setting is wrong, or something it needs is not installed."""


class KeyUnavailableError(ConfigurationError):
    """The installation's key is missing, is another one, or is open to others."""


class StorageError(HoldfastError):
    """The data directory or a database under it cannot be used."""


class LockedError(StorageError):
    """Another process owns the data directory."""


class ReadOnlyError(StorageError):
    """The data directory cannot be written to."""


class StorageFullError(StorageError):
    """No space is left where the data directory lies."""


class NewerVersionError(StorageError):
    """The data directory was written by a newer Holdfast."""


class ForkError(StorageError):
    """The ledger does not continue what was signed before; nothing was signed."""


class DamagedError(StorageError):
    """Something on disk is not what was written there."""
