"""The shop's definitions over a year, for what Dagster's bookkeeping costs."""

import datetime as dt
from warnings import catch_warnings, simplefilter

from assets import PROJECT as SHOP
from refold import Daily
from refold.dagster import build_defs
from resources import Database, ObjectStorage, RefoldEngine, SearchIndex

START = dt.date(2010, 12, 1)
PROJECT = SHOP.with_cadence(Daily(START, START + dt.timedelta(days=365)))

with catch_warnings():
    simplefilter("ignore")
    defs = build_defs(PROJECT, RefoldEngine(storage=ObjectStorage(), database=Database(), search=SearchIndex()))
