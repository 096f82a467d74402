"""Stands before several servers and has each request of a connection answered by the next one: python spread.py BOUND HOST:PORT… prints its own
address. What is no plain request with a known length goes octet by octet to one server.

A server may rely on what another one has changed for BOUND seconds, so nothing is asked of it before that time has passed."""
import asyncio
import itertools
import re
import sys
import time

# Operations that change nothing that the next request could look at on another server.
READS = re.compile(r"(Encrypt|Decrypt|ReEncrypt|Sign|Verify|VerifyMac|Generate(Random|Mac|DataKey\w*)|DeriveSharedSecret|Encapsulate|Decapsulate|AssumeRole\w*"
                   r"|DecodeAuthorizationMessage|(List|Get|Describe|Lookup|Simulate)\w+)$")
UNHEARD = re.compile(rb"HTTP/1.1 50[03] .*(DependencyTimeoutException|ServiceUnavailableException|<Code>ServiceUnavailable</Code>)", re.S)
TRIES = 50
PIECE = 1 << 16


class Head:
    """The first line and the header lines of a request or an answer. length is that of its body, None where it is no plain one."""

    def __init__(self, octets):
        first, *lines = octets[:-4].decode("latin-1").split("\r\n")
        fields = [line.partition(":")[::2] for line in lines]
        self.first, self.fields = first, [(name.lower(), value.strip()) for name, value in fields]
        lengths = self.all("content-length")
        self.length = int(lengths[0]) if len(lengths) == 1 and lengths[0].isdecimal() and lengths[0].isascii() else None if lengths else 0
        if self.all("transfer-encoding") or self.all("expect") or "HTTP/1.1" not in first or first.startswith("HEAD ") or (self.length or 0) > 1 << 20:
            self.length = None
        self.last = any(value.lower() == "close" for value in self.all("connection"))

    def all(self, wanted):
        return [value for name, value in self.fields if name == wanted]

    def operation(self, body):
        """The name of the operation, empty if nobody can tell."""
        for target in self.all("x-amz-target"):
            return target.rpartition(".")[2]
        found = re.search(rb"(?:^|[?&])Action=(\w+)", self.first.encode("latin-1") + b"&" + body)
        return found[1].decode() if found else ""


class Spread:
    def __init__(self, bound, nodes):
        self.bound, self.nodes = bound, nodes
        self.turns = itertools.cycle(range(len(nodes)))
        self.changed = [float("-inf")] * len(nodes)  # when each had answered its last change

    async def next(self):
        """The server whose turn it is, once it knows what the others have changed."""
        node = next(self.turns)
        known = max((t for i, t in enumerate(self.changed) if i != node), default=0) + self.bound
        if (wait := known - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        return node

    async def serve(self, reader, writer):
        links = {}
        try:
            while octets := await reader.read(PIECE):
                end = octets.find(b"\r\n\r\n") + 4
                head = Head(octets[:end]) if end > 3 and octets[:1].isalpha() else None
                if head is None or head.length is None or len(octets) - end > head.length:
                    return await self.tunnel(octets, reader, writer)
                if not await self.exchange(head, octets, len(octets) - end, reader, writer, links):
                    return
        except ConnectionError:
            writer.transport.abort()
        finally:
            for _, upstream in links.values():
                upstream.close()
            writer.close()

    async def open(self, node):
        return await asyncio.open_connection(*self.nodes[node].split(":"), limit=1 << 20)

    async def exchange(self, head, octets, have, reader, writer, links):
        """Carries one request, whose body is there up to have octets, and its answer. Returns whether another one may come."""
        while have < head.length:  # all of it, so that it can be sent again
            more = await reader.read(PIECE)
            if not more:
                await self.tunnel(octets, reader, writer)
                return False
            octets, have = octets + more, have + len(more)
        for attempt in range(TRIES):
            node = await self.next()
            top, whole = await self.ask(node, octets, links)
            answer = Head(top) if whole else None
            # What a server says that has not heard of the others in time, on a machine that does other things, too: nothing has changed.
            if not whole or not UNHEARD.search(top) or attempt == TRIES - 1:
                break
            await asyncio.sleep(self.bound)
        writer.write(top)
        await writer.drain()
        if not whole:
            return False
        status = int(answer.first.split()[1])
        if (status == 200 or status >= 500) and not READS.match(head.operation(octets)):
            self.changed[node] = time.monotonic()
        return not (answer.last or head.last)

    async def ask(self, node, octets, links):
        """Sends a request to a server. Returns the answer, or what there is of it, and whether that is all."""
        for _ in range(2):
            fresh = node not in links
            if fresh:
                links[node] = await self.open(node)
            back, upstream = links[node]
            upstream.write(octets)
            try:
                top = await back.readuntil(b"\r\n\r\n")
                length = Head(top).length
                if length is None:
                    raise ConnectionError("an answer of unknown length")
            except (asyncio.IncompleteReadError, ConnectionError) as e:
                links.pop(node)[1].close()
                if fresh:  # and not one that had been idle for too long
                    return getattr(e, "partial", b""), False
                continue
            try:
                return top + await back.readexactly(length), True
            except asyncio.IncompleteReadError as e:
                return top + e.partial, False
        return b"", False

    async def tunnel(self, octets, reader, writer):
        """Carries everything to one server and back to the end; whatever it answers may be a change."""
        node = await self.next()
        back, upstream = await self.open(node)
        upstream.write(octets)

        async def carry(source, target, answers):
            try:
                while piece := await source.read(PIECE):
                    if answers:
                        self.changed[node] = time.monotonic()
                    target.write(piece)
                    await target.drain()
                if target.can_write_eof():
                    target.write_eof()
            except ConnectionError:
                target.transport.abort()

        there = asyncio.create_task(carry(reader, upstream, False))
        await carry(back, writer, True)
        there.cancel()
        upstream.close()


async def main(bound, *nodes):
    spread = Spread(float(bound), nodes)
    server = await asyncio.start_server(spread.serve, "127.0.0.1", 0, limit=1 << 20)
    print("%s:%d" % server.sockets[0].getsockname(), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
