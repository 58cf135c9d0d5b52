"""The error for a wrong setting."""


class ConfigError(ValueError):
    """A setting that is unknown, missing or out of range, or an output that must not be written."""
