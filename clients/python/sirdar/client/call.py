"""A call as a value: what to send and how to read the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc

from sirdar.v1.search_pb2_grpc import SearchServiceStub

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[RequestT, AnswerT, T]):
    """One unary call: its method on a stub, its request, and the reader of its answer."""

    # Quoted: generic in the stubs, not at run time.
    method: "Callable[[SearchServiceStub], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]"
    request: RequestT
    read: Callable[[AnswerT], T]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; an empty `next_token` says that it was the last."""

    items: tuple[T, ...]
    next_token: str
