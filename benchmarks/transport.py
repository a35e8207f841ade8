"""A round's bytes over the product's own transport: masked sums against plain float32 averaging, on loopback.

    python -m benchmarks.transport serve|compare ...   (`benchmarks.secure_aggregation` starts both)

One process serves, with the product's servicers of updates and blobs, under mutual TLS; one is every member in turn, with the
product's link and a certificate for each. **Ours**: difference, norm, levels, masks, MAC and hash leave while they are made; the
server hashes each update, adds up, unmasks; each member fetches the sum, checks it, and writes its next state. **Plain**: the
difference leaves as float32; the server averages; each member fetches the mean, adds it to the model, and writes that. Neither
trains. The plain side neither checks nor hides anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks import synthetic
from benchmarks.roles import JOB, mapped
from coordinator.api.node_link import NodeLinkService
from coordinator.api.services import BlobService
from coordinator.registry.authority import Authority
from coordinator.rounds.sums import make_sum
from coordinator.rounds.uploads import Uploads
from coordinator.service import OPTIONS
from coordinator.store.blobs import Blobs
from coordinator.store.spool import Spool
from federation.identity.transport import Principal, TransportKey
from federation.route import Route
from federation.secagg import encoding as codes
from federation.secagg.events import Unmask
from federation.secagg.header import Header
from federation.secagg.levels import clipped
from federation.secagg.messages import Trailer, Upload
from federation.secagg.opening import open_sum
from federation.v1 import blobs_pb2_grpc
from federation.weights.layout import Difference
from federation.weights.outer_step import next_scales
from federation.weights.state import ModelState
from federation.weights.tensors import head, read_arrays
from node_agent.link.channel import Credentials, open_channel
from node_agent.link.stream import Link
from node_agent.rounds.files import JobFiles
from node_agent.rounds.growing import GrowingUpdate

FEDERATION = "benchmark"
STEP = 1 << 20


class Everybody:
    """Stands for the registry and the docket: every member may do what it does here."""

    def admit(self, caller: Principal) -> None: ...

    def driver(self, *_whose: object) -> Everybody:
        return self

    def expected(self, member: str, context: bytes) -> None: ...


def _mean_of(paths: list[Path], parameters: int) -> Iterator[memoryview]:
    total, other = np.empty(STEP, np.float32), np.empty(STEP, np.float32)
    streams = [path.open("rb", buffering=0) for path in paths]
    for start in range(0, parameters, STEP):
        held, more = total[: min(STEP, parameters - start)], other[: min(STEP, parameters - start)]
        for place, stream in enumerate(streams):
            _fill(stream, (more if place else held).view(np.uint8).data)
            if place:
                np.add(held, more, out=held)
        np.divide(held, np.float32(len(paths)), out=held)
        yield held.view(np.uint8).data
    for stream in streams:
        stream.close()


def _fill(stream: Any, out: memoryview) -> None:
    while out:
        out = out[stream.readinto(out) :]


async def serve(chosen: argparse.Namespace) -> None:
    folder, n = chosen.folder, chosen.members
    spool, blobs, everybody = Spool(folder / "spool", 1 << 40), Blobs(folder / "blobs"), Everybody()
    terms = synthetic.terms()
    encoding = synthetic.encoding(terms, n)
    uploads = Uploads(JOB, terms, spool, {}, chosen.parameters)
    names = [f"m{index}" for index in range(n)]

    async def uploaded(request: bytes, _context: Any) -> bytes:
        """A member's Upload: its bytes are settled, hashed and compared."""
        said = json.loads(request)
        if said["root"]:
            empty = Trailer((), (), (), ())
            message = Upload(said["index"] + 1, synthetic.CONTEXT, bytes.fromhex(said["root"]), empty, b"")
            verdict = await uploads.check(names[said["index"]], message, b"", header_only=False, members=n)
            if len(verdict.counted) != 1:
                raise AssertionError("not counted")
        else:
            await asyncio.to_thread(spool.settle, JOB, synthetic.CONTEXT, names[said["index"]])
        return b"{}"

    async def closed(request: bytes, _context: Any) -> bytes:
        if json.loads(request)["plain"]:
            paths = [spool._path(JOB, synthetic.CONTEXT, name) for name in names]
            digest, _ = await asyncio.to_thread(blobs.put_pieces, _mean_of(paths, chosen.parameters))
        else:
            unmask = Unmask(1, 0, synthetic.plan_of_collector(range(n)), tuple(range(1, n + 1)), n, n, False)
            digest = (
                await asyncio.to_thread(make_sum, uploads, blobs, terms, unmask, names, encoding.weight_unit)
            ).digest
        return json.dumps({"sum": digest.hex()}).encode()

    async def over(request: bytes, _context: Any) -> bytes:
        uploads.discard(synthetic.CONTEXT)
        blobs.erase(bytes.fromhex(json.loads(request)["sum"]))
        return b"{}"

    async def hello(_request: bytes, _context: Any) -> bytes:
        return b"{}"

    own = {"Uploaded": uploaded, "Closed": closed, "Over": over, "Hello": hello}
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(
        (
            NodeLinkService(everybody, None, everybody, spool, None, None).handler(),  # type: ignore[arg-type]
            grpc.method_handlers_generic_handler(
                "Benchmark", {name: grpc.unary_unary_rpc_method_handler(work) for name, work in own.items()}
            ),
        )
    )
    blobs_pb2_grpc.add_BlobsServicer_to_server(BlobService(everybody, blobs, everybody), server)  # type: ignore[arg-type]
    authority, now = Authority.create(FEDERATION, datetime.now(UTC)), datetime.now(UTC)
    certificate, key = authority.server("127.0.0.1", now, timedelta(days=1))
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority.certificate_pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    people = []
    for name in names:
        mine = TransportKey.generate()
        pem = authority.issue_for(
            mine.private.public_key(), Principal("node", name, f"{name}-1"), now, timedelta(days=1)
        )
        people.append((pem.decode(), mine.to_pem().decode()))
    fresh = folder / "server.new"
    fresh.write_text(json.dumps({"port": port, "ca": authority.certificate_pem.decode(), "people": people}))
    fresh.replace(folder / "server")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0)


@dataclass(slots=True)
class Client:
    """All members, one after another."""

    folder: Path
    parameters: int
    members: int
    lanes: int
    links: list[Link]
    bytes_up: int = 0
    bytes_down: int = 0

    async def call(self, member: int, name: str, **said: object) -> dict[str, Any]:
        channel: Any = self.links[member].channel()  # the stubs are typed for messages
        reply = await channel.unary_unary(f"/Benchmark/{name}")(json.dumps(said).encode(), timeout=600)
        found: dict[str, Any] = json.loads(reply)
        return found

    async def ours(self) -> float:
        terms, n = synthetic.terms(), self.members
        encoding, scales = synthetic.encoding(terms, n), synthetic.scales(terms, self.parameters)
        base, update = self.folder / "base", self.folder / "update"
        files = JobFiles(self.folder / "job")
        files.prepare()
        began = time.perf_counter()
        for member in range(n):
            moved = Difference(read_arrays(self.folder / "trained"), read_arrays(base))
            source, squared = await asyncio.to_thread(clipped, moved, terms.clip_norm, self.lanes)
            header, plan = Header.of(terms, 1, squared, {"train/loss": 0.5}), synthetic.plan_of(member, n)
            growing = GrowingUpdate.begun(update, codes.update_size(terms, encoding, source.size))
            update.write_bytes(b"")
            ahead = asyncio.create_task(self.links[member].put_update(JOB, synthetic.CONTEXT, growing))
            pieces = codes.pieces_of(source, header, plan, encoding, scales, lanes=self.lanes)
            root = await asyncio.to_thread(growing.write, pieces)
            await ahead
            await self.call(member, "Uploaded", index=member, root=root.hex())
        closed = await self.call(0, "Closed", plain=False)
        got, state = self.folder / "got", ModelState(1, read_arrays(base), {}, scales)

        def step() -> None:
            total = open_sum(mapped(got), synthetic.plan_of_sum(n), terms, encoding, n, n, self.parameters, self.lanes)
            moved = next_scales(scales, total.peaks, n, encoding.level_bound, total.saturated, terms)
            files.advance(synthetic.AVERAGE, state, total.means(scales), moved)

        for member in range(n):
            await self.links[member].get_blob(bytes.fromhex(closed["sum"]), got, 1 << 40)
            await asyncio.to_thread(step)
        seconds = time.perf_counter() - began
        self.bytes_up, self.bytes_down = update.stat().st_size, got.stat().st_size
        await self.call(0, "Over", sum=closed["sum"])
        return seconds

    async def plain(self) -> float:
        base, update = self.folder / "base", self.folder / "update"
        model, n = read_arrays(base), self.members
        began = time.perf_counter()
        for member in range(n):
            source = Difference(read_arrays(self.folder / "trained"), model)
            await asyncio.to_thread(self._write_plain, source, update)
            await self.links[member].put_update(JOB, synthetic.CONTEXT, GrowingUpdate.whole(update))
            await self.call(member, "Uploaded", index=member, root="")
        closed = await self.call(0, "Closed", plain=True)
        got, out = self.folder / "got", self.folder / "next"

        def step() -> None:
            mean, at = np.frombuffer(mapped(got), np.float32), 0
            with out.open("wb") as stream:
                stream.write(head(model))
                for array in model.values():
                    for start in range(0, array.size, STEP):
                        part = array[start : start + STEP]
                        stream.write((part + mean[at : at + part.size]).data)
                        at += part.size

        for member in range(n):
            await self.links[member].get_blob(bytes.fromhex(closed["sum"]), got, 1 << 40)
            await asyncio.to_thread(step)
        seconds = time.perf_counter() - began
        self.bytes_up, self.bytes_down = update.stat().st_size, got.stat().st_size
        await self.call(0, "Over", sum=closed["sum"])
        return seconds

    @staticmethod
    def _write_plain(source: Difference, update: Path) -> None:
        out = np.empty(STEP, np.float32)
        with update.open("wb", buffering=0) as stream:
            for start in range(0, source.size, STEP):
                stream.write(source.part(start, min(start + STEP, source.size), out).data)


async def compare(chosen: argparse.Namespace) -> None:
    """Prints the medians of both, a round of the one after a round of the other."""
    folder = chosen.folder
    said = json.loads((folder / "server").read_text())
    links = []
    for certificate, key in said["people"]:
        credentials = Credentials(FEDERATION, said["ca"].encode(), certificate.encode(), key.encode())
        route = Route(f"127.0.0.1:{said['port']}")
        link = Link(route, lambda held=credentials: held, lambda: None, lambda _: None)  # type: ignore[arg-type, return-value, misc]
        link._channel = open_channel(route, credentials)
        links.append(link)
    client = Client(folder, chosen.parameters, chosen.members, chosen.lanes, links)
    for member in range(chosen.members):
        await client.call(member, "Hello")
    found: dict[str, Any] = {"ours": [], "plain": []}
    for turn in range(chosen.repeats + 1):
        for name, work in (("ours", client.ours), ("plain", client.plain)):
            seconds = await work()
            if turn:  # the first warms up
                found[name].append(seconds)
            found[f"{name}_bytes"] = client.bytes_up + client.bytes_down
    medians = {name: statistics.median(found[name]) for name in ("ours", "plain")}
    print(json.dumps({**found, **medians}), flush=True)
    for link in links:
        await link.channel().close(None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=["serve", "compare"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--members", type=int, required=True)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    asyncio.run(serve(chosen) if chosen.side == "serve" else compare(chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
