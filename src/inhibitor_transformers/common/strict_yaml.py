"""YAML in which no key is given twice: of two values PyYAML would keep the last without a word."""

from __future__ import annotations

from typing import Any

import yaml

# Keys that stand for something else and that SafeLoader cannot construct: "<<" merges a mapping, "=" is its value.
_AS_WRITTEN = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")


def read_yaml(text: str) -> Any:
    """What `text` holds, by PyYAML's SafeLoader. Raises yaml.YAMLError, for a key given twice with both lines."""
    return yaml.load(text, _UniqueKeyLoader)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Looks at a mapping's keys as they are written, before merged ones ("<<"), which may be overridden, join them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # a list or mapping as a key is refused when it is constructed
            line = key_node.start_mark.line + 1
            key = key_node.value if key_node.tag in _AS_WRITTEN else self.construct_object(key_node)
            if key in lines:
                problem = f"{key!r} is given twice, in lines {lines[key]} and {line}; keep one of them"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            lines[key] = line
        return node
