"""Everything Dagster shows of this project, from its stores (`assets`) and its connections (`resources`)."""

from assets import PROJECT
from refold.dagster import build_defs
from resources import Database, ObjectStorage, RefoldEngine, SearchIndex

defs = build_defs(
    PROJECT,
    RefoldEngine(storage=ObjectStorage(), database=Database(), search=SearchIndex()),
)
