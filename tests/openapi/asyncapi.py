"""Checks a document by the JSON schema of AsyncAPI.

usage: asyncapi.py SCHEMA DOCUMENT    run by scripts/openapi
"""

import json
import sys

import jsonschema


def read(name):
    with open(name, encoding="utf-8") as file:
        return json.load(file)


schema, document = map(read, sys.argv[1:])
errors = list(jsonschema.Draft7Validator(schema).iter_errors(document))
for error in errors:
    print(f"{error.json_path}: {error.message[:500]}")
sys.exit(f"{sys.argv[2]}: {len(errors)} errors" if errors else 0)
