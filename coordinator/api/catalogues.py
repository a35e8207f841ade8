# mypy: disable-error-code="override"
"""The Catalogues service: what nodes publish of their data sets, for the federation's own people and nodes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import grpc

from coordinator.api.calls import Context, admitted, unary
from coordinator.catalogue.shelf import Shelf
from coordinator.registry.enrolment import Registry
from federation.v1 import catalogue_pb2, catalogue_pb2_grpc

CALLERS: Final = ("node", "lead", "officer", "operator")


@dataclass(frozen=True, slots=True)
class CatalogueService(catalogue_pb2_grpc.CataloguesServicer):
    registry: Registry
    shelf: Shelf

    def add_to(self, server: grpc.aio.Server) -> None:
        catalogue_pb2_grpc.add_CataloguesServicer_to_server(self, server)

    @unary
    async def List(
        self, request: catalogue_pb2.ListCataloguesRequest, context: Context
    ) -> catalogue_pb2.ListCataloguesReply:
        admitted(context, self.registry, *CALLERS)
        return await asyncio.to_thread(self.shelf.page, request.after[:200])
