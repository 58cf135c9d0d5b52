"""Registers our models with transformers' Auto classes as soon as transformers is there, and not before.

`import inhibitor_transformers` must stay fast, yet `AutoModel.from_pretrained(path)` must know our models
whichever of the two packages is imported first. So: register at once if the Auto classes are loaded, else
right after Python has loaded them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

# Loaded by any use of AutoConfig, AutoModel… ; the first loads a config, the second a model.
_AUTO_CLASSES = ("transformers.models.auto.configuration_auto", "transformers.models.auto.modeling_auto")


def register_with_transformers() -> None:
    """Import our models now if transformers' Auto classes are loaded, otherwise when they are."""
    if any(name in sys.modules for name in _AUTO_CLASSES):
        import_module("inhibitor_transformers.models")
    else:
        sys.meta_path.insert(0, _WhenAutoClassesLoad())


class _WhenAutoClassesLoad(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _AUTO_CLASSES or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)  # once only; and the search below must not come back here
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        import_module("inhibitor_transformers.models")
