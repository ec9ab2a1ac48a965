"""Moving bytes within the kernel, over real sockets: order, ends, pipes that come back, pipes that cannot be had."""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from balance.net import splice as splice_module
from balance.net.splice import AVAILABLE, PIPE_SIZE, Pipe, Pipes, Splice
from test.unit.support import no_descriptors
from test.unit.test_net_sockets import Recorder, SocketTestCase, reactor


@implementer(IHalfCloseableProtocol)
class Source:
    """Where bytes come from: the protocol of a splice's source."""

    room = 1 << 30

    def __init__(self, source: Any, target: Any, pipes: Pipes) -> None:
        self.source, self.target = source, target
        source.protocol = self
        self.splice = Splice(source, target, self, pipes)
        self.counted = self.through_us = self.stalls = 0
        self.ended = False
        self.lost: Deferred[str] = Deferred()

    def count(self, size: int) -> None:
        self.counted += size

    def stalled(self) -> None:
        self.stalls += 1

    def drained(self) -> None:
        self.source.startReading()

    def dataReceived(self, data: bytes) -> None:
        """There was no pipe."""
        self.counted += len(data)
        self.through_us += len(data)
        self.target.write(data)

    def readConnectionLost(self) -> None:
        self.ended = True
        self.target.half_close()

    def writeConnectionLost(self) -> None:
        """Not asked about."""

    def connectionLost(self, reason: Failure) -> None:
        self.splice.close()
        self.lost.callback("done" if reason.check(ConnectionDone) else "lost")

    # the target's producer, where bytes go through us
    def pauseProducing(self) -> None:
        self.source.stopReading()

    def resumeProducing(self) -> None:
        self.source.startReading()

    def stopProducing(self) -> None:
        self.source.stopReading()


def pipes_open() -> int:
    """Descriptors of this process that are ends of pipes."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("pipe:")
    return count


@skipUnless(AVAILABLE, "this platform has no splice(2)")
class Splices(SocketTestCase):
    async def moving(self, pipes: Pipes) -> tuple[Any, Source, Recorder]:
        """A sender, what moves its bytes, and who gets them."""
        sender, source = await self.pair()
        target, receiver = await self.pair()
        mover = Source(source.transport, target.transport, pipes)
        target.transport.registerProducer(mover, True)  # type: ignore[union-attr]
        return sender.transport, mover, receiver

    async def pair(self) -> tuple[Recorder, Recorder]:
        self.factory.next = Deferred()
        return await super().pair()

    async def test_everything_in_order_whatever_pipes_there_are(self) -> None:
        """With one pipe for two splices, each read may go another way."""
        for pipes in (Pipes(), Pipes(most=1, spare=0), Pipes(most=0)):
            sender, mover, receiver = await self.moving(pipes)
            hoarder, hoard, greedy = await self.moving(pipes)
            greedy.transport.pauseProducing()  # type: ignore[union-attr]
            hoarder.write(bytes(20_000_000))
            rng = random.Random(1)
            sent = b""
            for n in range(60):
                piece = rng.randbytes(rng.choice((1, 100, 70_000, 400_000)))
                sent += piece
                sender.write(piece)
                if n % 10 == 0:
                    greedy.transport.resumeProducing()  # type: ignore[union-attr]
                if n % 10 == 2:
                    greedy.transport.pauseProducing()  # type: ignore[union-attr]
                if n % 7 == 0:
                    receiver.transport.pauseProducing()  # type: ignore[union-attr]
                    await self.turns(20)
                    receiver.transport.resumeProducing()  # type: ignore[union-attr]
            self.assertEqual(await receiver.got(len(sent)), sent)
            greedy.transport.resumeProducing()  # type: ignore[union-attr]
            await greedy.got(20_000_000)
            self.assertEqual((mover.counted, hoard.counted), (len(sent), 20_000_000))
            self.assertEqual((pipes.used, mover.splice.held, hoard.splice.held), (0, 0, 0))
            self.assertEqual(bool(mover.through_us + hoard.through_us), pipes._most < 2)

    async def turns(self, many: int) -> None:
        for _ in range(many):
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn

    async def test_pipes_are_only_held_while_bytes_are_in_them(self) -> None:
        pipes = Pipes(spare=1)
        parties = [await self.moving(pipes) for _ in range(5)]
        before = pipes_open()
        for sender, _, receiver in parties:
            sender.write(bytes(100_000))
            await receiver.got(100_000)
        self.assertEqual(pipes.used, 0)
        self.assertEqual(pipes_open(), before + 2)

    async def test_an_end_behind_bytes_that_wait(self) -> None:
        sender, mover, receiver = await self.moving(Pipes())
        receiver.transport.pauseProducing()  # type: ignore[union-attr]
        sender.write(b"x" * 30_000_000)
        sender.loseWriteConnection()
        while not mover.splice.held:
            await self.turns(1)
        self.assertFalse(mover.ended)
        receiver.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual(await receiver.lost, "ConnectionDone")
        self.assertEqual(len(receiver.received), 30_000_000)
        self.assertTrue(mover.ended)

    async def test_a_pipe_that_is_not_empty_is_never_used_again(self) -> None:
        pipes = Pipes()
        sender, mover, receiver = await self.moving(pipes)
        receiver.transport.pauseProducing()  # type: ignore[union-attr]
        sender.write(b"secret" * 5_000_000)
        while not mover.splice.held:
            await self.turns(1)
        self.assertEqual(pipes.used, 1)
        mover.source.abortConnection()
        self.assertEqual(await mover.lost, "lost")
        self.assertEqual((pipes.used, pipes._free), (0, []))
        sender, mover, receiver = await self.moving(pipes)
        sender.write(b"public")
        self.assertEqual(await receiver.got(6), b"public")
        self.assertEqual(mover.through_us, 0)

    async def test_the_target_is_reset(self) -> None:
        sender, mover, receiver = await self.moving(Pipes())
        sender.write(b"x" * 30_000_000)
        await receiver.got(1)
        receiver.transport.abortConnection()  # type: ignore[union-attr]
        self.assertEqual(await mover.target.protocol.lost, "ConnectionLost")
        mover.source.abortConnection()
        await mover.lost

    def test_pipes_too_small_are_not_used(self) -> None:
        """What the kernel gives to a user whose share of pipe memory is used up."""
        before = pipes_open()
        self.patch(splice_module, "_enlarge", lambda descriptor: 8192)
        pipes = Pipes()
        self.assertIsNone(pipes.take())
        self.assertEqual((pipes.used, pipes_open()), (0, before))

    def test_a_bound_and_no_descriptors(self) -> None:
        pipes = Pipes(most=2, spare=1)
        taken = [pipes.take() for _ in range(3)]
        self.assertIsNone(taken[2])
        for pipe in taken[:2]:
            assert isinstance(pipe, Pipe)
            self.assertGreaterEqual(pipe.size, 65536)
            self.assertLessEqual(pipe.size, PIPE_SIZE)
            pipes.give(pipe)
        self.assertEqual((pipes.used, len(pipes._free)), (0, 1))
        pipes._free.pop().close()
        with no_descriptors():
            self.assertIsNone(pipes.take())
        self.assertEqual(pipes.used, 0)
