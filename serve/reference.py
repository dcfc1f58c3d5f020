"""The reference for people at `/docs`: the application's OpenAPI document as one page, without scripts."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from serve.page import HEADERS, PAGE_POLICY
from serve.problems import ProblemDetails

_ENVIRONMENT = Environment(
    loader=PackageLoader("serve"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def install_reference(app: FastAPI) -> None:
    """Add `/docs`. All routes that it tells of must be there before it is asked for."""
    app.add_api_route("/docs", reference, include_in_schema=False)


async def reference(request: Request) -> HTMLResponse:
    state = request.app.state
    if not hasattr(state, "reference"):
        state.reference = _ENVIRONMENT.get_template("reference.html.j2").render(**_described(request.app.openapi()))
    return HTMLResponse(state.reference, headers=HEADERS | {"Content-Security-Policy": PAGE_POLICY})


def _described(openapi: dict[str, Any]) -> dict[str, Any]:
    schemas = openapi["components"]["schemas"] | {ProblemDetails.__name__: ProblemDetails.model_json_schema()}
    return {
        "info": openapi["info"],
        "operations": [
            {"method": method.upper(), "path": path} | _operation(operation)
            for path, methods in openapi["paths"].items()
            for method, operation in methods.items()
        ],
        "schemas": {name: _fields(schema) for name, schema in sorted(schemas.items())},
        "descriptions": {name: schema.get("description", "") for name, schema in schemas.items()},
    }


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {})
    return {
        "id": operation["operationId"],
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "needs_key": "security" in operation,
        "parameters": [
            {
                "name": parameter["name"],
                "place": parameter["in"],
                "required": parameter.get("required", False),
                "type": _type(parameter["schema"]),
                "description": parameter.get("description", ""),
            }
            for parameter in operation.get("parameters", [])
        ],
        "bodies": {
            media: {"type": _type(content["schema"]), "fields": _fields(content["schema"])}
            for media, content in body.items()
        },
        "answers": {
            status: {
                "description": answer["description"],
                "types": [_type(content.get("schema", {})) for content in answer.get("content", {}).values()],
            }
            for status, answer in operation["responses"].items()
        },
    }


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": _type(field),
            "required": name in schema.get("required", []),
            "description": field.get("description", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words, such as `integer, 1 to 4096, default 256` or `list of Candidate`."""
    if reference := schema.get("$ref"):
        return reference.rpartition("/")[2]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return _with_limits(" or ".join(_type(choice) for choice in schema[several]), schema)
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return _with_limits(" or ".join(repr(value) for value in schema["enum"]), schema)
    match schema.get("type"):
        case "array":
            told = f"list of {_type(schema.get('items', {}))}"
        case "object" if isinstance(values := schema.get("additionalProperties"), dict):
            told = f"object of {_type(values)}"
        case "string" if schema.get("format") == "binary":
            told = "file"
        case None:
            told = schema.get("title", "anything")
        case simple:
            told = simple
    return _with_limits(told, schema)


def _with_limits(told: str, schema: dict[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        told += f", {schema['minimum']} to {schema['maximum']}"
    if schema.get("default") is not None:
        told += f", default {schema['default']}"
    return told
