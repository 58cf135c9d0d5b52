"""Settings from YAML and from flags: read, overridden, and checked against a dataclass."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import re
from pathlib import Path
from typing import Any

import yaml


class ConfigError(ValueError):
    """A setting that is unknown, missing or out of range."""


def load_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises ConfigError if it cannot be read or is no mapping."""
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is no text in UTF-8") from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, found {type(loaded).__name__}")
    return loaded


def load_record(path: Path, cure: str) -> dict[str, Any]:
    """The mapping in a JSON or YAML file of an earlier run. Raises ConfigError, with the cure, if it is damaged."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else load_yaml(path)
    except ValueError as error:
        raise ConfigError(f"{path} is damaged; {cure}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} is damaged; {cure}")
    return loaded


def override(settings: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Apply "key=value" assignments; "stage.key=value" sets it in every stage of that name. Values are YAML."""
    result = yaml.safe_load(yaml.safe_dump(settings))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"cannot read {assignment!r}; write key=value, or stage.key=value")
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ConfigError(f"cannot read the value of {assignment!r} as YAML") from None
        stage, dot, name = key.rpartition(".")
        if not dot:
            result[key] = parsed
            continue
        targets = [s for s in result.get("stages") or [] if isinstance(s, dict) and stage in s]
        if not targets:
            raise ConfigError(f"{assignment!r}: this run has no stage {stage!r}")
        for target in targets:
            given = target[stage] or {}
            require(isinstance(given, dict), f"stage {stage!r} must hold a mapping of settings, got {given!r}")
            target[stage] = given | {name: parsed}
    return result


def build(cls: type[Any], settings: dict[str, Any], *, where: str) -> Any:
    """`cls(**settings)`; raises ConfigError naming unknown or missing settings."""
    types = {f.name: f.type for f in dataclasses.fields(cls) if f.init}
    for key in settings:
        if key not in types:
            raise ConfigError(f"{where} has no setting {key!r}{close_match(key, types)}")
    required = {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - settings.keys()):
        raise ConfigError(f"{where} needs {', '.join(missing)}")
    typed = {}
    for key, value in settings.items():
        try:
            typed[key] = _typed(value, types[key])
        except ValueError as error:
            raise ConfigError(f"{where}: {key} {error}") from None
    try:
        return cls(**typed)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _typed(value: Any, declared: Any) -> Any:
    """The value, if it is of the declared number or truth type; raises ValueError otherwise.

    YAML 1.1 reads 1e-3 as a string; where a number is declared, it is meant as one.
    """
    kinds = set(re.findall(r"\w+", str(declared))) - {"class"}
    if not kinds <= {"bool", "int", "float", "None"} or (value is None and "None" in kinds):
        return value
    if isinstance(value, bool):
        if "bool" in kinds:
            return value
    elif isinstance(value, int | float | str) and kinds & {"int", "float"}:
        with contextlib.suppress(ValueError):
            number = float(value)
            if number.is_integer() and ("int" in kinds or isinstance(value, int)):
                return int(number)
            if "float" in kinds and math.isfinite(number):
                return number
    wanted = "a number" if "float" in kinds else "a whole number" if "int" in kinds else "true or false"
    raise ValueError(f"must be {wanted}, got {value!r}")


def close_match(word: Any, known: Any) -> str:
    """ " (did you mean …?)" with the nearest of the known words, or nothing."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)
