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

# Loaded by any use of AutoConfig or AutoModel.
_AUTO = ("transformers.models.auto.configuration_auto", "transformers.models.auto.modeling_auto")


def register_with_transformers() -> None:
    """Import our models now if transformers' Auto classes are loaded, otherwise as soon as they are."""
    if not _register_if_ready():
        sys.meta_path.insert(0, _Watch())


def _register_if_ready(just_loaded: ModuleType | None = None) -> bool:
    """Import our models if the Auto classes are there and no module of transformers is half-way in its import.

    The Auto classes may be loaded in the middle of another import, say of BERT: our models build on modules that
    are not complete then.
    """
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("transformers.")]
    half_way = any(m is not just_loaded and getattr(m.__spec__, "_initializing", False) for m in modules)
    if half_way or not any(name in sys.modules for name in _AUTO):
        return False
    import_module("inhibitor_transformers.models")
    return True


class _Watch(MetaPathFinder):
    """Lets the other finders load the modules of transformers, and looks again after each."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("transformers."):
            return None
        place = sys.meta_path.index(self)
        sys.meta_path.remove(self)  # the search below must not come back here
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(place, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader, self)
        return spec


class _ThenRegister(Loader):
    def __init__(self, loader: Loader, watch: _Watch) -> None:
        self.loader, self.watch = loader, watch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self.loader  # nothing of us stays behind
        self.loader.exec_module(module)
        if self.watch in sys.meta_path and _register_if_ready(just_loaded=module):
            sys.meta_path.remove(self.watch)
