"""The config: what the daemon is told, checked whole before anything is done with it."""

from __future__ import annotations

from ingestd.config.captures import Captures, wildcard
from ingestd.config.columns import columns_key, columns_of
from ingestd.config.dataset import Dataset, refuse_chunks
from ingestd.config.dtypes import (
    as_utf8,
    converts,
    fill_value,
    holds_unicode,
    labels,
    refuse_dtype,
    refuse_scaleoffset,
    stored_dtype,
)
from ingestd.config.load import config_name, load
from ingestd.config.model import Commit, Config, schema
from ingestd.config.pattern import LEFT_ALONE, Matcher
from ingestd.config.problems import Problem
from ingestd.config.source import FORMATS, Source, Target
from ingestd.config.template import Found, starter
from ingestd.config.transform import READY, Step
from ingestd.config.units import Bytes, Seconds, format_bytes, format_seconds
from ingestd.config.values import INTERNAL_GROUP, After, Compression, Settle, listed
from ingestd.config.wording import worded

__all__ = [
    "FORMATS",
    "INTERNAL_GROUP",
    "LEFT_ALONE",
    "READY",
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
    "as_utf8",
    "columns_key",
    "columns_of",
    "config_name",
    "converts",
    "fill_value",
    "format_bytes",
    "format_seconds",
    "holds_unicode",
    "labels",
    "listed",
    "load",
    "refuse_chunks",
    "refuse_dtype",
    "refuse_scaleoffset",
    "schema",
    "starter",
    "stored_dtype",
    "wildcard",
    "worded",
]
