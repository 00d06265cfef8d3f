"""The config: what the daemon is told, checked whole before anything is done with it."""

from __future__ import annotations

from ingestd.config.captures import Captures, wildcard
from ingestd.config.dataset import Dataset, fill_value, refuse_dtype
from ingestd.config.load import config_name, load
from ingestd.config.model import Commit, Config, schema
from ingestd.config.pattern import Matcher
from ingestd.config.problems import Problem
from ingestd.config.source import FORMATS, Source, Target
from ingestd.config.template import Found, starter
from ingestd.config.transform import Step
from ingestd.config.units import Bytes, Seconds, format_bytes, format_seconds
from ingestd.config.values import INTERNAL_GROUP, After, Compression, Settle, listed

__all__ = [
    "FORMATS",
    "INTERNAL_GROUP",
    "After",
    "Bytes",
    "Captures",
    "Commit",
    "Compression",
    "Config",
    "Dataset",
    "Found",
    "Matcher",
    "Problem",
    "Seconds",
    "Settle",
    "Source",
    "Step",
    "Target",
    "config_name",
    "fill_value",
    "format_bytes",
    "format_seconds",
    "listed",
    "load",
    "refuse_dtype",
    "schema",
    "starter",
    "wildcard",
]
