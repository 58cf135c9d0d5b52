"""Settings from YAML and from flags: read, overridden, and checked against a dataclass."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import json
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .errors import ConfigError
from .paths import expand_user
from .strict_yaml import read_yaml

# Settings and stages by the names that they once had.
RENAMED = {
    "align_contexts": "align_attention",
    "pair_share": "pair_fraction",
    "selection_share": "selection_fraction",
    "first_token_weight": "cls_weight",
    "alignment_first_token_weight": "alignment_cls_weight",
    "text_weight": "pooled_weight",
    "fixed_scalars": "frozen_scalars",
    "length_parts": "length_buckets",
    "start": "init_from",
    "control": "baseline",
}


def load_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises ConfigError if it cannot be read, gives a key twice or is no mapping."""
    try:
        loaded = read_yaml(expand_user(path).read_text(encoding="utf-8"))
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


class Flag(NamedTuple):
    """A flag of the command line that gives a setting; its value is None where it was left out."""

    name: str
    value: Any


def override(
    settings: dict[str, Any], assignments: list[str], flags: Mapping[str, Flag] | None = None
) -> dict[str, Any]:
    """Apply "key=value" assignments; "stage.key=value" sets it in every stage of that name. Values are YAML.

    flags: by setting, those of the command line, which come last.

    Raises ConfigError for an assignment that cannot be read, a key that is given twice, and a stage that is not there.
    """
    result, parsed_values = copy.deepcopy(settings), _parse_assignments(assignments)
    given = {key: flag for key, flag in (flags or {}).items() if flag.value is not None}
    for key, flag in given.items():
        require(key not in parsed_values, f"{key!r} is given by {flag.name} and by --set; keep one of them")
    for key, parsed in parsed_values.items():
        stage, dot, name = key.rpartition(".")
        if not dot:
            result[key] = parsed
            continue
        stages = result.get("stages")
        mappings = [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []
        targets = [s for s in mappings if stage in s]
        if not targets:
            known = [name for s in mappings for name in s]
            raise ConfigError(f"cannot set {key!r}: this run has no stage {stage!r}{close_match(stage, known)}")
        for target in targets:
            existing = target[stage] or {}
            require(isinstance(existing, dict), f"stage {stage!r} must hold a mapping of settings, got {existing!r}")
            target[stage] = existing | {name: parsed}
    return result | {key: flag.value for key, flag in given.items()}


def _parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Value by key."""
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"cannot read {assignment!r}; write key=value, or stage.key=value")
        require(key not in parsed, f"{key!r} is set twice (--set {assignment}); keep one of them")
        try:
            parsed[key] = read_yaml(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
            problem = " ".join(str(getattr(error, "problem", None) or error).split())
            raise ConfigError(f"cannot read the value of {assignment!r} as YAML: {problem}") from None
    return parsed


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
            typed[key] = _as_declared(value, types[key])
        except ValueError as error:
            raise ConfigError(f"{where}: {key} {error}") from None
    try:
        return cls(**typed)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def settle_numbers(settings: Any, prefix: str = "") -> None:
    """Make every setting that is declared a number or a truth value one; raises ConfigError for what is none."""
    for field in dataclasses.fields(settings):
        try:
            setattr(settings, field.name, _as_declared(getattr(settings, field.name), field.type))
        except ValueError as error:
            raise ConfigError(f"{prefix}{field.name} {error}") from None


def _as_declared(value: Any, declared: Any) -> Any:
    """The value, if it is of the declared number or truth type; raises ValueError otherwise.

    YAML 1.1 reads 1e-3 as a string; where a number is declared, it is meant as one.
    """
    kinds = set(re.findall(r"\w+", str(declared))) - {"class"}
    if not kinds <= {"bool", "int", "float", "None"} or (value is None and "None" in kinds):
        return value
    if isinstance(value, bool):
        if "bool" in kinds:
            return value
    elif isinstance(value, Real | str) and kinds & {"int", "float"}:
        with contextlib.suppress(ValueError):
            number = float(value)
            if number.is_integer() and ("int" in kinds or isinstance(value, Integral)):
                return int(number)
            if "float" in kinds and math.isfinite(number):
                return number
    wanted = "a number" if "float" in kinds else "a whole number" if "int" in kinds else "true or false"
    raise ValueError(f"must be {wanted}, got {value!r}")


def close_match(word: Any, known: Any) -> str:
    """ " (did you mean …?)" with the nearest of the known words, or the new name of what was renamed, or nothing."""
    if (renamed := RENAMED.get(str(word))) in known:
        return f": it is called {renamed!r} now"
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)
