"""The JSON Schema of recipe pages, for editors that complete and check while typing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from invertkit.recipe.page import Page, TermPage
from invertkit.recipe.registry import Registry
from invertkit.recipe.tables import KINDS, PartKind

_SHIPPED = Path(__file__).with_name("recipe.schema.json")


def shipped_schema() -> str:
    """The schema of the parts that come with the package, as text; torch is not imported."""
    return _SHIPPED.read_text(encoding="utf-8")


def make_schema(registry: Registry) -> dict[str, Any]:
    """The schema of pages over the parts of a registry, derived from their signatures."""
    # Here, since it imports torch: the shipped schema is printed without.
    from invertkit.recipe.build import nested_roles, signature_model

    page = Page.model_json_schema(ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = dict(page.pop("$defs", {}))
    # A term's place stands beside its objective's options, so each objective gets a copy below.
    definitions.pop("TermPage", None)
    term = TermPage.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(term.pop("$defs", {}))
    place = {key: value for key, value in term["properties"].items() if key != "type"}
    for kind in KINDS:
        choices = []
        for name in registry.names(kind):
            make = registry.load(kind, name)
            node = _part(signature_model(make), definitions)
            for option, role in nested_roles(make).items():
                node["properties"][option] = {"$ref": f"#/$defs/{role}"}
            node["properties"] = {
                "type": {"const": name, "description": registry.summary(kind, name)},
                **(place if kind == "objective" else {}),
                **node["properties"],
            }
            node["required"] = ["type", *node.get("required", [])]
            node["additionalProperties"] = False
            choices.append(node)
        definitions[kind] = {"oneOf": choices}
    _point_to_parts(page["properties"])
    # A page may extend another and then give any part of what a page has.
    page["anyOf"] = [
        {"required": ["extends"]},
        {"required": page.pop("required")},
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **page,
        "$defs": definitions,
    }


def _part(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    node = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(node.pop("$defs", {}))
    node.pop("title", None)
    node.setdefault("properties", {})
    return node


def _point_to_parts(properties: dict[str, Any]) -> None:
    # Null too, by which an overlay removes a term, a player or a model.
    def reference(kind: PartKind) -> dict[str, Any]:
        return {"anyOf": [{"$ref": f"#/$defs/{kind}"}, {"type": "null"}]}

    properties["variable"] = {"$ref": "#/$defs/variable"}
    properties["optimizer"] = {"$ref": "#/$defs/optimizer"}
    properties["finish"] = reference("finish")
    one_word = {"type": "string", "description": "embedded, resnet50-l2-eps0.05, a name of timm"}
    for key, kind in (("objective", "objective"), ("players", "player"), ("models", "model")):
        properties[key] = {
            "type": "object",
            "description": properties[key].get("description", ""),
            "additionalProperties": (
                {"anyOf": [*reference("model")["anyOf"], one_word]}
                if kind == "model"
                else reference(cast(PartKind, kind))
            ),
        }


def write_shipped_schema() -> None:
    """Bring the shipped file up to date; a test compares them."""
    text = json.dumps(make_schema(Registry()), indent=1, ensure_ascii=False) + "\n"
    _SHIPPED.write_text(text, encoding="utf-8")
