"""The error that a wrong setting raises, whichever part finds it."""


class ConfigError(ValueError):
    """A setting that is unknown, missing or out of range, or an output that must not be written."""
