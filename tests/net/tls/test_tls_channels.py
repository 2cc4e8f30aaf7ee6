"""Bytes in and out of a TLS connection, both ways of it, over real sockets to Python's own TLS."""

from __future__ import annotations

import random
import re
import select
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from OpenSSL import SSL

from lbproxy.model_tls import TlsPolicy
from lbproxy.net.polling import READ, WRITE
from lbproxy.net.tls.channel import MemoryChannel
from lbproxy.net.tls.contexts import client_context, server_context
from lbproxy.net.tls.failures import TlsFailure, Truncated
from lbproxy.net.transport import RECEIVE_BUFFER, RECEIVE_BYTES
from tests.net.net_rig import reset, tcp_listener, tcp_pair
from tests.net.tls_peers import NAME, WAYS, TlsPeer, authority, client_ssl, issued, pair_of, server_ssl

MEGABYTE = random.Random(11).randbytes(1 << 20)
RECORD = 16 * 1024
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def server_connection(policy: TlsPolicy | None = None) -> SSL.Connection:
    pairs = [pair_of(issued())]
    context = server_context(pairs, policy or TlsPolicy(), trust=None, tickets=True, stapled={}, write_secret=None)
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return connection


def client_connection() -> SSL.Connection:
    context = client_context(
        "intermediate",
        (),
        verify=True,
        authorities=[authority().certificate],
        revocations=(),
        soft=False,
        pair=None,
    )
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    connection.set_tlsext_host_name(NAME.encode())
    return connection


class Ends:
    """Our channel and their TLS over one TCP connection, and what the channel gave out."""

    def __init__(self, way: type[MemoryChannel], *, send: int = 0, receive: int = 0) -> None:
        self.way = way
        self.theirs, self.ours = tcp_pair(send, receive)
        self.theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a byte that is sent is on its way
        self.peer = TlsPeer(client_ssl(), self.theirs)
        self.got = bytearray()
        self.calls: list[int] = []  # how many bytes each call brought
        self.ended = False
        self.made: MemoryChannel | None = None

    @property
    def channel(self) -> MemoryChannel:
        assert self.made is not None
        return self.made

    def begin(self, *, version: ssl.TLSVersion | None = None, client: bool = False) -> None:
        """Have the channel, as a server that has read the hello, or as a client."""
        if client:
            self.peer = TlsPeer(server_ssl(most=version), self.theirs, server=True)
            self.made = self.way(client_connection(), self.ours)
        else:
            self.peer = TlsPeer(client_ssl(most=version), self.theirs)
            self.peer.pump()
            self.made = self.way(server_connection(), self.ours, self.wait_for_hello())

    def wait_for_hello(self) -> bytes:
        assert select.select([self.ours], [], [], 5)[0]
        return self.ours.recv(65536)

    def shake(self) -> None:
        until(lambda: self.channel.shake() == 0, self.peer.pump)
        until(self.peer.pump)

    def established(self, **how: bool | ssl.TLSVersion | None) -> Ends:
        self.begin(**how)  # type: ignore[arg-type]  # handed on as they are
        self.shake()
        self.drain()
        return self

    def receive(self, buffer: bytearray | memoryview = RECEIVE_BUFFER) -> int:
        """One call, as the side makes it."""
        count = self.channel.receive(buffer)
        self.calls.append(count)
        self.got += buffer[:count]
        self.ended = self.ended or not count
        return count

    def drain(self) -> None:
        """All that there is now, as an event and what TLS holds inside would have it read."""
        try:
            while not self.ended:
                self.receive()
        except BlockingIOError:
            return

    def close(self) -> None:
        if self.made is not None:
            self.made.release()
        self.theirs.close()
        self.ours.close()


def until(done: Callable[[], object], *steps: Callable[[], object]) -> None:
    for _ in range(20_000):
        if done():
            return
        for step in steps:
            step()
    raise AssertionError("it did not come to that")


@pytest.fixture(params=WAYS)
def ends(request: pytest.FixtureRequest) -> Iterator[Callable[..., Ends]]:
    with ExitStack() as stack:

        def make(**sizes: int) -> Ends:
            made = Ends(request.param, **sizes)
            stack.callback(made.close)
            return made

        yield make


Make = Callable[..., Ends]


class TestHandshakes:
    @pytest.mark.parametrize("version", VERSIONS, ids=str)
    @pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
    def test_there_and_back(self, ends: Make, version: ssl.TLSVersion, client: bool) -> None:
        made = ends().established(version=version, client=client)
        assert made.channel.established
        assert made.peer.tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        made.peer.send(b"there")
        until(lambda: made.got == b"there", made.drain)
        assert made.channel.send(b"back") == 4
        until(lambda: made.peer.got == b"back", made.peer.pump)

    @pytest.mark.parametrize("version", VERSIONS, ids=str)
    @pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
    def test_byte_by_byte(self, ends: Make, version: ssl.TLSVersion, client: bool) -> None:
        made = ends()
        made.begin(version=version, client=client)
        peer = made.peer
        made.channel.shake()
        for _ in range(10):  # more flights than any handshake has
            peer.pull()
            peer.shake()
            for octet in peer.take():
                made.theirs.send(bytes([octet]))
                if made.channel.established:
                    made.drain()  # tickets come behind the handshake
                else:
                    assert made.channel.shake() in (0, READ)
        until(lambda: made.channel.established or made.channel.shake() == 0)
        until(peer.pump)
        assert made.channel.established
        peer.send(b"data")
        until(lambda: made.got == b"data", made.drain)

    def test_data_right_behind_the_handshake(self, ends: Make) -> None:
        """It came in the segment that ended the handshake: no event will tell of it."""
        made = ends()
        made.begin(version=ssl.TLSVersion.TLSv1_3)
        assert made.channel.shake() == READ
        until(lambda: made.peer.shake(), made.peer.pull)
        made.theirs.send(made.peer.take() + made.peer.encrypted(b"at once"))
        until(lambda: made.channel.shake() == 0)
        in_kernel = select.select([made.ours], [], [], 0)[0]
        assert made.channel.more or in_kernel, "somebody would tell of it"
        made.drain()
        assert made.got == b"at once"

    def test_a_handshake_into_a_full_kernel_waits_for_room(self, ends: Make) -> None:
        made = ends(send=4096)
        made.begin()
        filled = 0
        try:
            while True:
                filled += made.ours.send(bytes(4096))
        except BlockingIOError:
            pass
        assert made.channel.shake() == WRITE
        until(lambda: made.channel.shake() == READ, lambda: made.theirs.recv(min(65536, filled)))

    @pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
    def test_an_end_within_it_is_a_loss_and_no_failure_of_tls(self, ends: Make, client: bool) -> None:
        made = ends()
        made.begin(client=client)
        made.channel.shake()
        made.theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match="ended within the handshake") as caught:
            until(lambda: made.channel.shake() == 0)
        assert not isinstance(caught.value, TlsFailure)

    def test_a_reset_within_it_is_a_loss(self, ends: Make) -> None:
        made = ends()
        made.begin()
        made.channel.shake()
        reset(made.theirs)
        with pytest.raises(OSError) as caught:  # noqa: PT011  # which errno depends on who is first to notice
            until(lambda: made.channel.shake() == 0)
        assert not isinstance(caught.value, TlsFailure)

    def test_a_failure_is_told_to_the_peer(self, ends: Make) -> None:
        made = ends()
        made.peer = TlsPeer(client_ssl(most=ssl.TLSVersion.TLSv1_2, ciphers="AES128-SHA"), made.theirs)
        made.peer.pump()
        made.made = made.way(server_connection(), made.ours, made.wait_for_hello())
        with pytest.raises(TlsFailure) as caught:
            made.channel.shake()
        assert caught.value.word == "no_shared_cipher"
        assert not made.channel.established
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            until(made.peer.pump)

    def test_a_server_that_is_not_trusted_is_refused_by_name(self, ends: Make) -> None:
        made = ends()
        context = client_context("intermediate", (), verify=True, authorities=(), revocations=(), soft=False, pair=None)
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        made.peer = TlsPeer(server_ssl(), made.theirs, server=True)
        made.made = made.way(connection, made.ours)
        with pytest.raises(TlsFailure) as caught:
            until(lambda: made.channel.shake() == 0, made.peer.pump)
        assert caught.value.word == "unknown_ca"

    def test_bytes_that_are_no_tls(self, ends: Make) -> None:
        made = ends()
        made.begin()
        made.channel.shake()
        made.theirs.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TlsFailure) as caught:
            until(lambda: made.channel.shake() == 0)
        assert caught.value.word in {"not_tls", "bad_record", "protocol"}


class TestReceiving:
    @pytest.mark.parametrize("version", VERSIONS, ids=str)
    @pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
    def test_a_record_byte_by_byte(self, ends: Make, version: ssl.TLSVersion, client: bool) -> None:
        made = ends().established(version=version, client=client)
        for octet in made.peer.encrypted(b"one record"):
            assert made.got == b""
            made.theirs.send(bytes([octet]))
            made.drain()
        until(lambda: made.got, made.drain)
        assert made.got == b"one record"

    def test_several_records_in_one_segment(self, ends: Make) -> None:
        made = ends().established()
        records = [made.peer.encrypted(bytes([number]) * 100) for number in range(20)]
        made.theirs.send(b"".join(records))
        until(lambda: len(made.got) == 2000, made.drain)
        assert made.got == b"".join(bytes([number]) * 100 for number in range(20))

    def test_nothing_is_left_inside_without_a_word(self, ends: Make) -> None:
        """After each call either the kernel has more, and tells, or the channel says `more`, or there is nothing."""
        made = ends().established()
        made.theirs.send(made.peer.encrypted(MEGABYTE[: 3 * RECORD]) + made.peer.encrypted(b"small"))
        while len(made.got) < 3 * RECORD + 5:
            told = made.channel.more or select.select([made.ours], [], [], 1)[0]
            assert told, f"{len(made.got)} bytes came, and nobody tells of the rest"
            made.receive()
        assert made.got == MEGABYTE[: 3 * RECORD] + b"small"

    def test_the_room_that_a_side_leaves_is_enough_for_whatever_comes(self, ends: Make) -> None:
        made = ends().established()
        room = memoryview(bytearray(32 * 1024))
        # Cut so that the largest parts of records are left over from one call to the next.
        stream = b"".join(made.peer.encrypted(MEGABYTE[at : at + RECORD]) for at in range(0, 8 * RECORD, RECORD))
        for at in range(0, len(stream), RECORD - 1):
            made.theirs.send(stream[at : at + RECORD - 1])
            with pytest.raises(BlockingIOError):
                while True:
                    made.receive(room)
        assert made.got == MEGABYTE[: 8 * RECORD]

    @pytest.mark.parametrize("goodbye", [True, False], ids=["close_notify", "FIN alone"])
    def test_an_end_behind_data_is_told_of(self, ends: Make, goodbye: bool) -> None:
        """TLS has read it with the data; what it holds inside makes no event."""
        made = ends().established()
        told: list[bool] = []
        made.channel.attach(lambda: None, lambda: told.append(made.channel.more))
        made.theirs.send(made.peer.encrypted(MEGABYTE[:RECORD]) + (made.peer.goodbye() if goodbye else b""))
        if not goodbye:
            made.theirs.shutdown(socket.SHUT_WR)
        until(lambda: made.got, lambda: made.receive() if select.select([made.ours], [], [], 1)[0] else None)
        assert told == [True] or select.select([made.ours], [], [], 0)[0], "somebody tells of it"

    def test_nothing_there_is_no_end(self, ends: Make) -> None:
        made = ends().established()
        with pytest.raises(BlockingIOError):
            made.receive()
        with pytest.raises(BlockingIOError):
            made.receive()

    @pytest.mark.parametrize("size", [0, 5, RECORD, 2 * RECORD, 2 * RECORD + 5])
    def test_close_notify_behind_data_in_the_same_segment(self, ends: Make, size: int) -> None:
        made = ends().established()
        made.theirs.send(made.peer.encrypted(MEGABYTE[:size]) + made.peer.goodbye())
        until(lambda: made.ended, made.drain)
        assert made.got == MEGABYTE[:size]
        assert made.receive() == 0, "the end stays the end"

    @pytest.mark.parametrize("size", [0, 5, RECORD, 2 * RECORD, 2 * RECORD + 5])
    def test_an_end_without_it_comes_behind_the_data_and_is_no_orderly_one(self, ends: Make, size: int) -> None:
        made = ends().established()
        made.theirs.send(made.peer.encrypted(MEGABYTE[:size]))
        made.theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Truncated):
            until(lambda: made.ended, made.drain)
        assert made.got == MEGABYTE[:size]

    def test_half_a_record_and_then_an_end_is_truncated(self, ends: Make) -> None:
        made = ends().established()
        made.theirs.send(made.peer.encrypted(b"whole") + made.peer.encrypted(b"half a record")[:-5])
        made.theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(Truncated):
            until(lambda: made.ended, made.drain)
        assert made.got == b"whole"

    @pytest.mark.parametrize("size", [0, 5, RECORD])
    def test_a_corrupted_record_is_told_behind_what_came_before(self, ends: Make, size: int) -> None:
        made = ends().established()
        bad = bytearray(made.peer.encrypted(MEGABYTE[:size]) + made.peer.encrypted(b"to be damaged"))
        bad[-1] ^= 1
        made.theirs.send(bad)
        with pytest.raises(TlsFailure) as caught:
            until(lambda: made.ended, made.drain)
        assert caught.value.word == "bad_record"
        assert made.got == MEGABYTE[:size]

    def test_a_damaged_record_is_told_to_the_peer(self, ends: Make) -> None:
        made = ends().established()
        bad = bytearray(made.peer.encrypted(b"to be damaged"))
        bad[-1] ^= 1
        made.theirs.send(bad)
        with pytest.raises(TlsFailure):
            until(lambda: made.ended, made.drain)
        made.channel.flush()
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            until(lambda: made.peer.closed, made.peer.pump)

    def test_a_reset_is_the_sockets_error(self, ends: Make) -> None:
        made = ends().established()
        reset(made.theirs)
        with pytest.raises(ConnectionResetError):
            until(lambda: made.ended, made.drain)


class TestSending:
    @pytest.mark.parametrize("version", VERSIONS, ids=str)
    def test_a_megabyte_each_way_through_full_kernels(self, ends: Make, version: ssl.TLSVersion) -> None:
        made = ends(send=8192, receive=8192).established(version=version)
        channel, peer = made.channel, made.peer
        pending, refused = memoryview(MEGABYTE), 0

        def send() -> None:
            nonlocal pending, refused
            if channel.owes and not channel.flush():
                refused += 1
                return
            if not pending:
                return
            try:
                sent = channel.send(pending[:RECEIVE_BYTES])
            except BlockingIOError:
                refused += 1
                return
            assert 0 < sent <= RECEIVE_BYTES
            pending = pending[sent:]

        peer.send(MEGABYTE)

        def read_a_little() -> None:
            data = peer_reads(peer, 5000)
            if data:
                peer.give(data)
                peer.read()
            peer.flush()

        until(
            lambda: len(peer.got) >= len(MEGABYTE) and len(made.got) >= len(MEGABYTE), send, made.drain, read_a_little
        )
        assert peer.got == MEGABYTE
        assert made.got == MEGABYTE
        assert refused, "the kernel was never full: this shows nothing"
        assert not channel.owes

    def test_what_was_refused_may_be_sent_again_from_elsewhere(self, ends: Make) -> None:
        """A side copies what the kernel refuses: the same bytes then stand at another address, others behind them."""
        made = ends(send=4096, receive=4096).established()
        channel, sent, at = made.channel, bytearray(), 0
        while True:
            chunk = bytearray(MEGABYTE[at : at + 40_000])
            try:
                count = channel.send(memoryview(chunk))
            except BlockingIOError:
                break
            sent += chunk[:count]
            at += count
            chunk[:] = bytes(len(chunk))
        copy = bytes(MEGABYTE[at : at + 90_000])
        rest = memoryview(copy)

        def again() -> None:
            nonlocal rest
            if not channel.flush() or not rest:
                return
            try:
                rest = rest[channel.send(rest) :]
            except BlockingIOError:
                return

        until(lambda: not rest and not channel.owes and len(made.peer.got) == at + 90_000, again, made.peer.pump)
        assert made.peer.got == MEGABYTE[: at + 90_000]

    def test_who_owes_is_told_so(self, ends: Make) -> None:
        made = ends(send=4096, receive=4096).established()
        told: list[int] = []
        made.channel.attach(lambda: told.append(made.channel.owes), lambda: None)
        try:
            for _ in range(200):
                made.channel.send(MEGABYTE[:RECEIVE_BYTES])
        except BlockingIOError:
            pass
        else:
            raise AssertionError("the kernel takes everything")
        assert bool(told) == bool(made.channel.owes), "what is owed, somebody must send"
        assert all(told)

    def test_a_reset_is_told_to_whoever_sends(self, ends: Make) -> None:
        made = ends().established()
        reset(made.theirs)
        with pytest.raises(OSError) as caught:  # noqa: PT011  # the first write may be told of the pipe or of the reset
            for _ in range(50):
                made.channel.send(MEGABYTE[:1000])
        assert not isinstance(caught.value, BlockingIOError)


class TestEnds:
    def test_a_goodbye_is_said_once(self, ends: Make) -> None:
        made = ends().established()
        made.channel.send(b"last")
        assert made.channel.goodbye()
        assert made.channel.goodbye()
        made.ours.shutdown(socket.SHUT_WR)
        until(lambda: made.peer.closed and made.peer.fin, made.peer.pump)
        assert made.peer.got == b"last"

    def test_the_other_direction_goes_on_behind_a_goodbye(self, ends: Make) -> None:
        made = ends().established()
        assert made.channel.goodbye()
        until(lambda: made.peer.closed, made.peer.pump)
        made.theirs.send(made.peer.encrypted(b"still there"))
        until(lambda: made.got == b"still there", made.drain)

    def test_what_the_peer_says_behind_its_own_is_still_sent(self, ends: Make) -> None:
        made = ends().established()
        made.theirs.send(made.peer.goodbye())
        until(lambda: made.ended, made.drain)
        assert made.channel.send(MEGABYTE[:1000]) == 1000

    def test_a_goodbye_into_a_full_kernel_waits(self, ends: Make) -> None:
        made = ends(send=4096, receive=4096).established()
        raw = 0
        try:
            while True:  # as if records were on their way already
                raw += made.ours.send(bytes(2048))
        except BlockingIOError:
            pass
        assert not made.channel.goodbye()

        def make_room() -> None:
            peer_reads(made.peer, 4096)

        until(made.channel.goodbye, make_room)

    def test_a_goodbye_on_a_reset_connection_is_no_error(self, ends: Make) -> None:
        made = ends().established()
        reset(made.theirs)
        assert made.channel.goodbye()

    def test_one_channel_knows_nothing_of_anothers_error(self, ends: Make) -> None:
        """OpenSSL keeps errors by thread: one that is left behind would be found by the next connection."""
        bad, good = ends().established(), ends().established()
        damaged = bytearray(bad.peer.encrypted(b"to be damaged"))
        damaged[-1] ^= 1
        bad.theirs.send(damaged)
        with pytest.raises(TlsFailure):
            until(lambda: bad.ended, bad.drain)
        bad.channel.goodbye()
        with pytest.raises(BlockingIOError):
            good.receive()
        good.peer.send(b"fine")
        until(lambda: good.got == b"fine", good.drain)


def peer_reads(peer: TlsPeer, most: int) -> bytes:
    """Take so many bytes of ciphertext from the socket, if there are any."""
    assert peer.sock is not None
    try:
        return peer.sock.recv(most)
    except BlockingIOError:
        return b""


class Openssl:
    """`openssl s_client`, which speaks TLS as it is told on its standard input, one command at a time."""

    def __init__(self, way: type[MemoryChannel], *options: str) -> None:
        binary = shutil.which("openssl")
        assert binary is not None
        with tcp_listener() as listening:
            host, port = listening.getsockname()
            self.process = subprocess.Popen(
                [binary, "s_client", "-connect", f"{host}:{port}", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self.ours, _ = listening.accept()
        self.said = b""
        self.ours.setblocking(False)
        hello = self.wait().recv(65536)
        self.channel = way(server_connection(), self.ours, hello)
        while self.channel.shake():
            self.wait()

    def wait(self) -> socket.socket:
        assert select.select([self.ours], [], [], 10)[0], "openssl says nothing"
        return self.ours

    def types(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def updates(self, command: str) -> None:
        """Have it send a KeyUpdate, and wait until it has: what is typed behind an unread command is lost."""
        self.types(f"{command}\n")
        assert self.process.stdout is not None
        line = b""
        while b"KEYUPDATE" not in line:
            line = self.process.stdout.readline()
            self.said += line

    def answers(self) -> bytes:
        """The plaintext that its next record holds, b"" for a record without any."""
        self.wait()
        try:
            count = self.channel.receive(RECEIVE_BUFFER)
        except BlockingIOError:
            return b""
        assert count, "openssl ended"
        return bytes(RECEIVE_BUFFER[:count])

    def close(self) -> str:
        """What it printed."""
        self.channel.release()
        self.ours.close()
        rest, _ = self.process.communicate(timeout=10)
        return (self.said + rest).decode(errors="replace")


@pytest.fixture(params=WAYS)
def openssl(request: pytest.FixtureRequest) -> Iterator[Callable[..., Openssl]]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl(1) here")
    with ExitStack() as stack:

        def make(*options: str) -> Openssl:
            made = Openssl(request.param, *options)
            stack.callback(made.close)
            return made

        yield make


class TestRecordsWithoutData:
    @pytest.mark.parametrize("command", ["k", "K"], ids=["one way", "asking for ours"])
    def test_a_flood_of_key_updates_is_cut(self, openssl: Callable[..., Openssl], command: str) -> None:
        made = openssl("-tls1_3")
        with pytest.raises(TlsFailure) as caught:
            for _ in range(34):
                made.updates(command)
                assert made.answers() == b""
        assert caught.value.word == "control_flood"
        assert "L8" in str(caught.value.strerror)

    @pytest.mark.parametrize("command", ["k", "K"], ids=["one way", "asking for ours"])
    def test_a_few_with_data_in_between_are_not(self, openssl: Callable[..., Openssl], command: str) -> None:
        made = openssl("-tls1_3")
        for number in range(20):
            for _ in range(4):
                made.updates(command)
                assert made.answers() == b""
            made.types(f"line {number}\n")
            # Asked for its own KeyUpdate, OpenSSL spends reads on sending it, while the line waits in the kernel.
            came = next(filter(None, (made.answers() for _ in range(9))))
            assert came == f"line {number}\n".encode()
            made.channel.send(b"back\n")
        assert made.close().count("back\n") == 20

    def test_renegotiation_is_refused(self, openssl: Callable[..., Openssl]) -> None:
        made = openssl("-tls1_2")
        made.types("R\n")
        with pytest.raises(OSError):  # noqa: PT011  # openssl gives up, in one way or another
            while True:
                assert made.answers() == b""
        assert re.search("no renegotiation", made.close())
