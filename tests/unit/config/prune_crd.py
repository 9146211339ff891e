"""Makes rayservice_crd.json, which test_kuberay.py holds the manifest against, from KubeRay's CRD.

    python tests/unit/config/prune_crd.py ray.io_rayservices.yaml

The CRD is ray-operator/config/crd/bases/ray.io_rayservices.yaml of KubeRay v1.7.0. Kept is what
says which manifest is right: the spec of version v1. Left out are descriptions, defaults, the
status and what only an API server understands. A part that stands in several places (such as the
pod template) is written once, under `$defs`. The API server drops unknown fields; here they are
forbidden.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

OUTPUT = Path(__file__).with_name("rayservice_crd.json")
KEPT = {
    "additionalProperties",
    "anyOf",
    "enum",
    "items",
    "maximum",
    "maxItems",
    "maxLength",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "properties",
    "required",
    "type",
}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema of the CRD as a JSON schema that forbids unknown fields."""
    kept = {key: value for key, value in schema.items() if key in KEPT}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = strict(kept[key])
    if "properties" in kept:
        kept["properties"] = {name: strict(sub) for name, sub in kept["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    return kept


def shared(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with every large part that is repeated moved to `$defs`."""
    seen: Counter[str] = Counter()
    names: dict[str, str] = {}
    definitions: dict[str, Any] = {}

    def count(node: Any) -> None:
        if isinstance(node, dict):
            text = json.dumps(node, sort_keys=True)
            seen[text] += 1
            if seen[text] == 1:
                for value in node.values():
                    count(value)

    def refer(node: Any, name: str) -> Any:
        if not isinstance(node, dict):
            return node
        text = json.dumps(node, sort_keys=True)
        # A mapping of properties is no schema, though one of them may be called "type".
        is_schema = isinstance(node.get("type"), str)
        if seen[text] == 1 or len(text) < 100 or not is_schema:
            return {key: refer(value, key) for key, value in node.items()}
        if text not in names:
            taken = sum(known.split("-")[0] == name for known in names.values())
            names[text] = f"{name}-{taken + 1}" if taken else name
            definitions[names[text]] = {key: refer(value, key) for key, value in node.items()}
        return {"$ref": f"#/$defs/{names[text]}"}

    count(schema)
    return {**refer(schema, "root"), "$defs": definitions}


def main() -> None:
    crd = yaml.safe_load(Path(sys.argv[1]).read_text())
    [v1] = [version for version in crd["spec"]["versions"] if version["name"] == "v1"]
    schema = v1["schema"]["openAPIV3Schema"]
    del schema["properties"]["status"]
    OUTPUT.write_text(json.dumps(shared(strict(schema)), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
