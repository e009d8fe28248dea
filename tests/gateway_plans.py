"""Stages of searches, and the fields that a refused search names."""

from typing import Any

import pytest

from gateway.pipeline.request import read_query
from gateway.settings import GatewaySettings
from sirdar.errors import InvalidArgument
from sirdar.v1 import query_pb2, search_pb2

SETTINGS = GatewaySettings(reranker_address="127.0.0.1:1")

DENSE = query_pb2.QueryStage(name="dense", dense=query_pb2.DensePrefetch())
LEXICAL = query_pb2.QueryStage(name="lexical", lexical=query_pb2.LexicalPrefetch())


def stage(name: str, inputs: str, **kind: Any) -> query_pb2.QueryStage:
    return query_pb2.QueryStage(name=name, inputs=inputs.split(), **kind)


def fuse(name: str = "fuse", inputs: str = "dense lexical", **how: Any) -> query_pb2.QueryStage:
    return stage(name, inputs, fuse=query_pb2.FuseStage(**how))


def refused_fields(request: search_pb2.SearchRequest) -> list[str]:
    with pytest.raises(InvalidArgument) as refused:
        read_query(request, SETTINGS)
    return [item.field for item in refused.value.fields]
